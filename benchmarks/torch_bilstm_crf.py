"""The peer of `benchmarks.tagging`: the same tagger in PyTorch with pytorch-crf, at its ordinary best.

usage: torch_bilstm_crf.py FOLDER EPOCHS [SENTENCES] — one JSON object an epoch; on a GPU where there is one.
"""

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchcrf import CRF

WORD_DIM, CHARACTER_DIM, CHARACTER_UNITS, UNITS, MAX_CHARACTERS = 100, 30, 50, 128, 20
DECODING_ROWS = 128
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def read(path):
    sentences, sentence = [], []
    for line in Path(path).read_text(encoding="utf-8").split("\n"):
        fields = line.split(" ")
        if len(fields) > 1 and fields[0] != "-DOCSTART-":
            sentence.append((fields[0], fields[-1]))
        elif sentence:
            sentences.append(sentence)
            sentence = []
    return [*sentences, sentence] if sentence else sentences


def normalize(word):
    return "".join("0" if character.isdigit() else character for character in word.lower())


class Tagger(nn.Module):
    def __init__(self, words, characters, tags):
        super().__init__()
        self.words = nn.Embedding(words, WORD_DIM, padding_idx=0)
        self.characters = nn.Embedding(characters, CHARACTER_DIM, padding_idx=0)
        self.convolution = nn.Conv1d(CHARACTER_DIM, CHARACTER_UNITS, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.lstm = nn.LSTM(WORD_DIM + CHARACTER_UNITS, UNITS, bidirectional=True, batch_first=True)
        self.emissions = nn.Linear(2 * UNITS, tags)
        self.crf = CRF(tags, batch_first=True)

    def forward(self, words, characters):
        batch, time, length = characters.shape
        spelled = self.characters(characters.view(batch * time, length)).transpose(1, 2)
        spelled = self.convolution(spelled).max(-1).values.view(batch, time, -1)
        features = torch.cat([self.words(words), spelled], -1)
        return self.emissions(self.dropout(self.lstm(self.dropout(features))[0]))


def main(folder, epochs, sentences=32):
    torch.set_num_threads(2)
    torch.manual_seed(0)
    rng = random.Random(0)
    train, dev = read(f"{folder}/train.conll"), read(f"{folder}/dev.conll")
    counts = Counter(normalize(word) for sentence in train for word, _ in sentence)
    words = {word: n for n, word in enumerate((w for w, c in counts.items() if c > 1), 2)}
    characters = {c: n for n, c in enumerate(sorted({c for s in train for word, _ in s for c in word}), 2)}
    tags = {tag: n for n, tag in enumerate(sorted({tag for sentence in train for _, tag in sentence}))}

    def encode(sentence):
        spelled = np.zeros((len(sentence), MAX_CHARACTERS), np.int64)
        for row, (word, _) in enumerate(sentence):
            ids = [characters.get(c, 1) for c in word[:MAX_CHARACTERS]]
            spelled[row, : len(ids)] = ids
        return [words.get(normalize(word), 1) for word, _ in sentence], spelled, [tags[tag] for _, tag in sentence]

    def batches(data, rows, shuffled):
        order = sorted(range(len(data)), key=lambda i: len(data[i][0]) + (rng.random() if shuffled else 0))
        groups = [order[i : i + rows] for i in range(0, len(order), rows)]
        if shuffled:
            rng.shuffle(groups)
        for group in groups:
            time = max(len(data[i][0]) for i in group)
            w, y = (torch.zeros(len(group), time, dtype=torch.long) for _ in range(2))
            c = torch.zeros(len(group), time, MAX_CHARACTERS, dtype=torch.long)
            mask = torch.zeros(len(group), time, dtype=torch.bool)
            for row, i in enumerate(group):
                length = len(data[i][0])
                w[row, :length], y[row, :length] = torch.tensor(data[i][0]), torch.tensor(data[i][2])
                c[row, :length] = torch.from_numpy(data[i][1])
                mask[row, :length] = True
            yield tuple(each.to(DEVICE) for each in (w, c, y, mask))

    encoded, encoded_dev = [encode(s) for s in train], [encode(s) for s in dev]
    tokens, dev_tokens = sum(map(len, train)), sum(map(len, dev))
    net = Tagger(len(words) + 2, len(characters) + 2, len(tags)).to(DEVICE)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for epoch in range(epochs):
        net.train()
        began = time.perf_counter()
        for w, c, y, mask in batches(encoded, sentences, True):
            optimizer.zero_grad()
            loss = -net.crf(net(w, c), y, mask, reduction="mean")
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
        loss.item()  # A GPU is waited for.
        trained = time.perf_counter()
        net.eval()
        with torch.no_grad():
            for w, c, _, mask in batches(encoded_dev, DECODING_ROWS, False):
                net.crf.decode(net(w, c), mask)
        decoded = time.perf_counter()
        speeds = {"train": tokens / (trained - began), "decode": dev_tokens / (decoded - trained)}
        print(json.dumps({"epoch": epoch, **speeds}), flush=True)


main(sys.argv[1], *map(int, sys.argv[2:]))
