"""The peer of `benchmarks.translation`: the same encoder-decoder in PyTorch, with a beam search in Python.

usage: torch_translation.py FOLDER STEPS — FOLDER has what `benchmarks.translation` wrote; prints one JSON object.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

PAD, BEGIN, END = 0, 2, 3


class Translator(nn.Module):
    """A bidirectional GRU, a GRU, additive attention, a second GRU, and a softmax over tied embeddings."""

    def __init__(self, weights, dropout):
        super().__init__()
        vocabulary, dim = weights["target_embedding/embeddings"].shape
        units = weights["decoder_1/recurrent_kernel"].shape[0]
        width = weights["encoder_1/forward/recurrent_kernel"].shape[0]
        self.embedding = nn.Embedding(vocabulary, dim, padding_idx=PAD)
        self.encoder = nn.GRU(dim, width, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * width, 2 * units)
        self.query, self.key, self.score = (
            nn.Linear(units, units),
            nn.Linear(2 * width, units, bias=False),
            nn.Linear(units, 1, bias=False),
        )
        self.first = nn.GRU(dim, units, batch_first=True)
        self.second = nn.GRU(units + 2 * width, units, batch_first=True)
        self.readout = nn.Linear(units + 2 * width + dim, dim)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(dropout)
        self.load(weights)

    def load(self, weights):
        def put(parameter, value):
            parameter.data = torch.tensor(np.ascontiguousarray(value))

        def gru(layer, name, suffix):
            # Keras has the gates in the order update, reset, candidate; PyTorch reset, update, candidate.
            def ordered(matrix):
                update, reset, candidate = np.split(matrix, 3, axis=-1)
                return np.concatenate([reset, update, candidate], axis=-1)

            put(getattr(layer, f"weight_ih_l0{suffix}"), ordered(weights[f"{name}/kernel"]).T)
            put(getattr(layer, f"weight_hh_l0{suffix}"), ordered(weights[f"{name}/recurrent_kernel"]).T)
            put(getattr(layer, f"bias_ih_l0{suffix}"), ordered(weights[f"{name}/bias"][0]))
            put(getattr(layer, f"bias_hh_l0{suffix}"), ordered(weights[f"{name}/bias"][1]))

        put(self.embedding.weight, weights["target_embedding/embeddings"])
        put(self.bias, weights["softmax/bias"])
        gru(self.encoder, "encoder_1/forward", "")
        gru(self.encoder, "encoder_1/backward", "_reverse")
        gru(self.first, "decoder_1", "")
        gru(self.second, "decoder_2", "")
        for layer, name in ((self.bridge, "bridge"), (self.readout, "readout")):
            put(layer.weight, weights[f"{name}/kernel"].T)
            put(layer.bias, weights[f"{name}/bias"])
        put(self.query.weight, weights["attention/query_kernel"].T)
        put(self.query.bias, weights["attention/bias"])
        put(self.key.weight, weights["attention/memory_kernel"].T)
        put(self.score.weight, weights["attention/score_kernel"].T)

    def embed(self, ids):
        return self.dropout(self.embedding(ids) * self.embedding.embedding_dim**0.5)

    def encode(self, source):
        mask = source.eq(PAD)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(source), (~mask).sum(1), batch_first=True, enforce_sorted=False
        )
        packed, last = self.encoder(packed)
        memory, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=source.shape[1])
        memory = self.dropout(memory)
        states = torch.tanh(self.bridge(torch.cat([last[0], last[1]], -1))).chunk(2, -1)
        return (memory, self.key(memory), mask), [state.contiguous() for state in states]

    def decode(self, tokens, memory, states):
        values, keys, mask = memory
        embedded = self.embed(tokens)
        hidden, first = self.first(embedded, states[0][None])
        scores = self.score(torch.tanh(self.query(hidden)[:, :, None] + keys[:, None])).squeeze(-1)
        context = scores.masked_fill(mask[:, None], -1e9).softmax(-1) @ values
        second, last = self.second(self.dropout(torch.cat([hidden, context], -1)), states[1][None])
        features = torch.tanh(self.readout(torch.cat([self.dropout(second), context, embedded], -1)))
        return self.dropout(features), [first[0], last[0]]

    def scores(self, features):
        return features @ self.embedding.weight.T + self.bias


def padded(rows):
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    return ids


def training_speed(model, batches, smoothing, steps):
    """Target tokens a second."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    speeds = []
    for source, target in batches[:steps]:
        source, target = padded(source), padded(target)
        began = time.perf_counter()
        memory, states = model.encode(source)
        before = torch.cat([torch.full((len(target), 1), BEGIN), target[:, :-1]], 1)
        real = target.ne(PAD)
        features, _ = model.decode(before, memory, states)
        features, ids = features[real], target[real]
        scores = model.scores(features)
        total = scores.logsumexp(-1).sum() - (1 - smoothing) * scores.gather(1, ids[:, None]).sum()
        total -= smoothing * (features @ model.embedding.weight.mean(0) + model.bias.mean()).sum()
        (total / len(ids)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(average, [parameter.detach() for parameter in model.parameters()], 0.002)
        speeds.append((len(ids), time.perf_counter() - began))
    timed = speeds[len(speeds) // 4 :]
    return sum(count for count, _ in timed) / sum(seconds for _, seconds in timed)


@torch.no_grad()
def beam_search(model, sources, width):
    """The best translation of each source, by log-probability per token."""
    source = padded(sources)
    (values, keys, mask), states = model.encode(source)
    limits = [int(1.5 * len(row)) + 10 for row in sources]
    rows = torch.arange(len(sources)).repeat_interleave(width)
    memory, states = (values[rows], keys[rows], mask[rows]), [state[rows] for state in states]
    tokens = torch.full((len(rows), 1), BEGIN)
    totals = torch.full((len(sources), width), -1e9)
    totals[:, 0] = 0.0
    words = torch.zeros(len(rows), 0, dtype=torch.long)
    alive, finished = list(range(len(sources))), [[] for _ in sources]
    for length in range(1, max(limits) + 1):
        features, states = model.decode(tokens, memory, states)
        scores = model.scores(features[:, 0]).log_softmax(-1)
        scores[:, [PAD, BEGIN]] = -1e9
        size = scores.shape[-1]
        best, chosen = (totals[:, :, None] + scores.view(len(alive), width, size)).view(len(alive), -1).topk(2 * width)
        kept, kept_words, kept_totals, staying = [], [], [], []
        for place, (row, flat, value) in enumerate(zip(alive, chosen.tolist(), best.tolist(), strict=True)):
            open_rows, open_words, open_totals = [], [], []
            for rank, (index, total) in enumerate(zip(flat, value, strict=True)):
                parent, word = place * width + index // size, index % size
                if word == END:
                    if rank < width:
                        finished[row].append((total / length, [*words[parent].tolist(), END]))
                elif len(open_rows) < width:
                    open_rows.append(parent), open_words.append(word), open_totals.append(total)
            top = max((score for score, _ in finished[row]), default=-1e9)
            if length >= limits[row] or (len(finished[row]) >= width and open_totals[0] / limits[row] <= top):
                if not finished[row]:
                    finished[row] = [(open_totals[0] / length, [*words[open_rows[0]].tolist(), open_words[0]])]
                continue
            staying.append(row)
            kept += open_rows
            kept_words += open_words
            kept_totals.append(open_totals)
        if not staying:
            break
        rows = torch.tensor(kept)
        tokens = torch.tensor(kept_words)[:, None]
        words, totals, alive = torch.cat([words[rows], tokens], 1), torch.tensor(kept_totals), staying
        memory, states = tuple(part[rows] for part in memory), [state[rows] for state in states]
    return [max(hypotheses, key=lambda hypothesis: hypothesis[0])[1] for hypotheses in finished]


def decoding_speed(model, sources, width, batch):
    """Sentences a second, and the translations."""
    model.eval()
    order = sorted(range(len(sources)), key=lambda row: len(sources[row]))
    found = [None] * len(sources)
    beam_search(model, [sources[row] for row in order[:batch]], width)
    began = time.perf_counter()
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        for row, ids in zip(rows, beam_search(model, [sources[row] for row in rows], width), strict=True):
            found[row] = ids
    return len(sources) / (time.perf_counter() - began), found


def main():
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(2)
    torch.manual_seed(0)
    given = json.loads((folder / "given.json").read_text())
    model = Translator(dict(np.load(folder / "weights.npz")), given["dropout"])
    answer = {"torch": torch.__version__}
    found = {}
    for width in (1, 5):
        for batch in (1, 64):
            sources = given["sources"][:100] if batch == 1 else given["sources"]
            speed, ids = decoding_speed(model, sources, width, batch)
            answer[f"beam {width}, batch {batch}"] = speed
            if batch == 64:
                found[str(width)] = ids
    answer["training"] = training_speed(model, given["batches"], given["smoothing"], steps)
    (folder / "found.json").write_text(json.dumps(found))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
