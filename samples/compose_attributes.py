"""Composes samples/attributes: rooms of guest houses described in words, for one-to-many generation."""

import csv
import itertools
import random
from pathlib import Path

NAMES = "Larch House,The Old Mill,Harbour View,Birch Lodge,The Green Door,Swan Cottage,Hilltop Inn,The Lantern".split(
    ","
)
KINDS = {"single": "single room", "double": "double room", "family": "family room"}
VIEWS = {"sea": "looks out over the sea", "garden": "looks out on the garden", "street": "faces the street"}
FLOORS = {"ground floor": "on the ground floor", "first floor": "on the first floor", "attic": "in the attic"}
PRICES = {
    "cheap": ("is cheap", "cheap"),
    "reasonable": ("is reasonable in price", "reasonable"),
    "expensive": ("is expensive", "expensive"),
}
PETS = {
    "welcome": ("pets are welcome", "makes pets welcome"),
    "at home": ("pets must stay at home", "asks guests to leave pets at home"),
}


def description(rng, room):
    kind, name = KINDS[room["kind"]], room["name"]
    price = PRICES[room["price"]] if "price" in room else None
    adjective = f"{price[1]} " if price and rng.random() < 0.5 else ""
    article = "an" if adjective[:1] in "aeiou" and adjective else "a"
    where = f" {FLOORS[room['floor']]}" if "floor" in room else ""
    first = rng.choice(
        [f"{name} has {article} {adjective}{kind}{where}", f"At {name} there is {article} {adjective}{kind}{where}"]
    )
    sentences = [first]
    if "view" in room:
        if rng.random() < 0.5:
            sentences[0] += f" that {VIEWS[room['view']]}"
        else:
            sentences.append(f"It {VIEWS[room['view']]}")
    if price and not adjective:
        sentences.append(f"It {price[0]}")
    if "pets" in room:
        text = PETS[room["pets"]][0] if rng.random() < 0.5 else f"{name} {PETS[room['pets']][1]}"
        sentences.append(text[0].upper() + text[1:])
    return ". ".join(sentences) + "."


def main():
    rng = random.Random(5)
    rooms = []
    for kind, view, floor, price, pets in itertools.product(
        KINDS, [*VIEWS, None], [*FLOORS, None], [*PRICES, None], [*PETS, None]
    ):
        room = {"name": "", "kind": kind, "view": view, "floor": floor, "price": price, "pets": pets}
        rooms.append({key: value for key, value in room.items() if value is not None})
    rng.shuffle(rooms)
    folder = Path(__file__).parent / "attributes"
    folder.mkdir(exist_ok=True)
    for part, chosen, texts in (("train", rooms[:360], 2), ("dev", rooms[360:395], 2), ("test", rooms[395:435], 3)):
        with open(folder / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("attributes", "text"))
            for room in chosen:
                room["name"] = rng.choice(NAMES)
                representation = ", ".join(f"{key}[{value}]" for key, value in room.items())
                for text in dict.fromkeys(description(rng, room) for _ in range(texts)):
                    rows.writerow((representation, text))


if __name__ == "__main__":
    main()
