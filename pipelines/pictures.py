"""Pictures that several pipelines draw."""

SHOWN = 20  # classes in the picture of confusions


def learning_curve(path, history):
    """Draws loss and dev scores over the epochs.

    Args:
        history: `{metric: [(epoch, value), …]}`.
    """
    picture, (left, right) = figure(1, 2, (9, 3.2))
    for name, points in history.items():
        axis = left if name.endswith("loss") else right
        if name.startswith(("train/loss", "dev/")):
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    for axis, title in ((left, "loss, nats"), (right, "dev scores")):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    picture.savefig(path, dpi=130)


def confusions(path, pairs, meaning):
    """Draws how often which class was taken for which.

    Args:
        pairs: `{(gold, predicted): count}`.
        meaning: of the colour, in words.
    """
    totals = {}
    for (tag, _), count in pairs.items():
        totals[tag] = totals.get(tag, 0) + count
    every = sorted({tag for pair in pairs for tag in pair}, key=lambda tag: -totals.get(tag, 0))[:SHOWN]
    size = 2.2 + 0.5 * len(every)
    picture, axis = figure(1, 1, (size + 0.6, size))
    shares = [[pairs[a, b] / max(totals.get(a, 0), 1) for b in every] for a in every]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, a in enumerate(every):
        for column, b in enumerate(every):
            if pairs[a, b]:
                color = "white" if shares[row][column] > 0.5 else "black"
                axis.text(column, row, f"{pairs[a, b]}", ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(len(every)), every, rotation=60, fontsize=8)
    axis.set_yticks(range(len(every)), every, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("gold")
    picture.colorbar(image, label=meaning, shrink=0.8)
    picture.savefig(path, dpi=130)


def figure(rows, columns, size):
    """An empty picture of `size` inches and its axes."""
    # Drawn without pyplot, which would look for a screen and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(picture)
    return picture, picture.subplots(rows, columns)
