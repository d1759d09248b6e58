"""The peer of `benchmarks.language`: the same language model in PyTorch, at its ordinary best.

usage: torch_language_model.py VOCABULARY STEPS [UNITS ROWS] — speeds as one JSON object; on a GPU where there is one.
"""

import json
import sys
import time

import torch
from torch import nn

LAYERS, LENGTH, DROPOUT = 2, 35, 0.25
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GENERATED = {1: 400, 64: 60}  # tokens by rows


class LanguageModel(nn.Module):
    def __init__(self, vocabulary, units):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, units)
        self.lstm = nn.LSTM(units, units, LAYERS, dropout=DROPOUT, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.softmax = nn.Linear(units, vocabulary)
        self.softmax.weight = self.embedding.weight

    def forward(self, tokens, states=None):
        features, states = self.lstm(self.dropout(self.embedding(tokens)), states)
        return self.softmax(self.dropout(features)), states


def training(model, vocabulary, steps, rows):
    optimizer = torch.optim.Adam(model.parameters(), 0.002)
    loss_of = nn.CrossEntropyLoss()
    tokens = torch.randint(vocabulary, (steps, rows, LENGTH), device=DEVICE)
    states, times = None, []
    for step in range(steps):
        began = time.perf_counter()
        scores, states = model(tokens[step], states)
        states = tuple(state.detach() for state in states)
        loss = loss_of(scores.flatten(0, 1), tokens[step].roll(-1, 1).flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    # The first steps warm up.
    return rows * LENGTH / sorted(times[5:])[len(times[5:]) // 2]


@torch.inference_mode()
def generation(model, vocabulary, rows):
    model.eval()
    word, states = torch.randint(vocabulary, (rows, 1), device=DEVICE), None
    for _ in range(5):
        scores, states = model(word, states)
    began = time.perf_counter()
    for _ in range(GENERATED[rows]):
        scores, states = model(word, states)
        word = torch.multinomial(torch.softmax(scores[:, -1], -1), 1)
    word.cpu()
    return rows * GENERATED[rows] / (time.perf_counter() - began)


def main(vocabulary, steps, units=200, rows=20):
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = LanguageModel(vocabulary, units).to(DEVICE)
    speeds = {"training": training(model, vocabulary, steps, rows)}
    speeds |= {f"generation {rows}": generation(model, vocabulary, rows) for rows in GENERATED}
    print(json.dumps(speeds))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
