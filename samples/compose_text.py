"""Composes the sample corpora `samples/text` and `samples/sentiment`; `python samples/compose_text.py` rewrites them.

Everything here was written for this project. The text is short tales, a sentence a line: who appears comes back as
he or she, and the time of the tale runs through its verbs, so that a model gains by remembering. The opinions are of
films, meals, hotels, books and tools: negation, contrast and doubt turn the words around that a bag of words counts.
"""

import random
from pathlib import Path

HERE = Path(__file__).parent
SHE = "mara ines ruth nora tilda the_widow the_queen the_miller's_daughter the_old_nurse the_captain's_wife".split()
HE = "jonas emil otto the_fisherman the_king the_tailor the_young_monk the_ferryman the_clockmaker anton".split()
PLACES = """the harbour|the mill|the market|a narrow bridge|the chapel|the edge of the forest|her uncle's inn|the lighthouse|
the frozen lake|the orchard|the library|the old quarry|a village without a name|the salt road""".replace("\n", "").split("|")
THINGS = """lantern|letter|silver coin|map|basket of plums|broken clock|fiddle|loaf of bread|red scarf|key|knife with a bone handle|
book of songs|little boat|jar of honey|wooden horse|ring|sack of flour|mirror""".replace("\n", "").split("|")
WEATHER = ["rain", "snow", "fog", "a warm wind", "thunder", "the first frost", "a pale sun"]
FEEL = "tired hungry afraid proud curious lonely cheerful angry ashamed patient".split()
ANIMALS = "crow dog goat fox grey cat mare heron hare".split(" ")
SPOKEN = [
    "the road is longer than it looks",
    "nobody has seen the bell since winter",
    "what is lost in the river stays in the river",
    "i would give ten years for one honest answer",
    "you may sleep here , but you may not ask",
    "there was a time when the mill sang",
    "come back before the bread is cold",
    "every door has two sides",
]
# Verbs of a tale that is told in the past, and of one told in the present.
VERBS = {
    "past": dict(come="came", go="went", see="saw", find="found", carry="carried", hide="hid", sell="sold", give="gave",
                 say="said", ask="asked", be="was", have="had", wait="waited", fall="fell", follow="followed",
                 open="opened", lose="lost", remember="remembered", want="wanted", laugh="laughed", do="did"),
    "now": dict(come="comes", go="goes", see="sees", find="finds", carry="carries", hide="hides", sell="sells",
                give="gives", say="says", ask="asks", be="is", have="has", wait="waits", fall="falls",
                follow="follows", open="opens", lose="loses", remember="remembers", want="wants", laugh="laughs",
                do="does"),
}  # fmt: skip
BEGIN = [
    "one {season} morning {hero} {come} to {place} with a {thing} .",
    "{hero} {be} {feel} , for {weather} {have} come over {place} .",
    "nobody at {place} {remember} why {hero} {carry} a {thing} .",
    "when {weather} {come} , {hero} {go} down to {place} .",
]
MIDDLE = [
    "{they} {see} a {animal} beside {place} and {follow} it .",
    "there {they} {find} {other} , who {be} {feel} and {want} a {thing} .",
    "{other} {ask} {them} for the {thing} , but {they} {say} nothing .",
    '" {spoken} , " {say} {other} .',
    '" {spoken} , " {they} {say} , and {laugh} .',
    "{they} {hide} the {thing} under {their} coat .",
    "{other} {give} {them} a {thing2} for the {thing} .",
    "in the evening {weather} {fall} on {place} , and {they} {wait} .",
    "the {animal} {open} one eye , as if it {have} heard {their} name .",
    "{they} {be} {feel} , and {other} {be} {feel} too .",
    "{other} {do} not want the {thing} any more .",
    "so {they} {sell} the {thing} at {place} and {go} on .",
]
END = [
    "at last {they} {lose} the {thing} , and {do} not look for it .",
    "that {be} how {hero} {come} home with a {thing2} .",
    "since that day {other} {wait} at {place} .",
    "and the {animal} ? it {follow} {them} all the way .",
    "{hero} {open} the door , and {weather} {come} in with {them} .",
]


def tale(rng):
    she = rng.random() < 0.5
    hero, other = rng.choice(SHE if she else HE), rng.choice(HE if she else SHE)
    words = {
        "hero": hero, "other": other, "they": "she" if she else "he", "them": "her" if she else "him",
        "their": "her" if she else "his", "place": rng.choice(PLACES), "thing": rng.choice(THINGS),
        "thing2": rng.choice(THINGS), "weather": rng.choice(WEATHER), "animal": rng.choice(ANIMALS),
        "season": rng.choice(["spring", "summer", "autumn", "winter"]),
    }  # fmt: skip
    verbs = VERBS[rng.choice(["past", "now"])]
    lines = [rng.choice(BEGIN), *rng.sample(MIDDLE, rng.randint(2, 5)), rng.choice(END)]
    for line in lines:
        if rng.random() < 0.3:
            words["place"] = rng.choice(PLACES)
        yield line.format(**words, **verbs, feel=rng.choice(FEEL), spoken=rng.choice(SPOKEN)).replace("_", " ")


GOOD = """warm clever funny moving generous bright honest careful delicious elegant thrilling gentle tender lively
comfortable reliable delightful quick""".split()
BAD = """dull cold clumsy slow bland noisy dirty careless predictable sour stiff confusing rude tedious flimsy stale
pointless awkward""".split()
SUBJECTS = """the film|the soup|the hotel|the novel|this lamp|the second act|our room|the waiter|the plot|this kettle|the dialogue|
the dessert|the new edition|the garden|the ending|this bicycle|the concert|the breakfast|the service|the short story""".replace(
    "\n", "").split("|")  # fmt: skip
VERY = ["", "", "", "really ", "quite ", "very ", "surprisingly ", "rather "]
SAME = [
    "{s} was {v}{x} and {x2} .",
    "i found {s} {v}{x} .",
    "{s} is {v}{x} , from the first minute to the last .",
    "what a {x} thing {s} turned out to be !",
    "everything about {s} felt {v}{x} .",
    "my sister called {s} {x} , and she was right .",
    "{v}{x} , {x2} , and worth telling others about .",
]
TURNED = [
    "{s} was not {v}{y} at all .",
    "i expected {s} to be {y} , but it was {x} .",
    "some call {s} {y} ; i found it {v}{x} .",
    "{s} starts {y} and then becomes {v}{x} .",
    "nobody could say that {s} was {y} .",
    "{s} may look {y} , yet in the end it is {x} .",
    "{y} ? no , {s} was {v}{x} .",
    "far from {y} , {s} stayed {x} .",
]
LATER = [
    "for all its {y} moments , {s} leaves one thinking of something {x} .",
    "the critics who wrote that {s} is {y} must have been somewhere else : {x} !",
    "i would go again tomorrow , so {x} was {s} ." ,
]


def opinion(rng, later):
    good = rng.random() < 0.5
    own, others = (GOOD, BAD) if good else (BAD, GOOD)
    pattern = rng.choice(SAME + TURNED + (LATER if later else []))
    if not good and "go again" in pattern:
        pattern = "i would not go again , so {x} was {s} ."
    if not good and "worth telling" in pattern:
        pattern = "{v}{x} , {x2} , and not worth telling others about ."
    x, x2 = rng.sample(own, 2)
    text = pattern.format(s=rng.choice(SUBJECTS), v=rng.choice(VERY), x=x, x2=x2, y=rng.choice(others))
    return "positive" if good else "negative", text


def write(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main():
    rng = random.Random(7)
    for part, tales in (("train", 420), ("dev", 45), ("test", 45)):
        write(HERE / "text" / f"{part}.txt", (line for _ in range(tales) for line in tale(rng)))
    seen = set()
    for part, count in (("train", 480), ("dev", 100), ("test", 120)):
        lines = ["label\ttext"]
        while len(lines) <= count:
            label, text = opinion(rng, later=part != "train")
            if text not in seen:
                seen.add(text)
                lines.append(f"{label}\t{text}")
        write(HERE / "sentiment" / f"{part}.tsv", lines)


if __name__ == "__main__":
    main()
