"""Pictures that every pipeline draws."""


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


def figure(rows, columns, size):
    """An empty picture of `size` inches and its axes."""
    # Drawn without pyplot, which would look for a screen and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(picture)
    return picture, picture.subplots(rows, columns)
