"""Composes the sample bitext `samples/bitext`, English and Spanish; `python samples/compose_bitext.py` rewrites it.

Everything here was written for this project. Sentences are put together from phrases whose words are linked by hand, so
the gold links of the test part come with them: adjectives that change places, words that become two (every day: todos
los días) or one (of the: del), pronouns that Spanish leaves out, `do` that it does not have. The test part has
combinations, and some words, of its own.
"""

import random
from pathlib import Path

# English singular and plural, Spanish singular and plural, gender.
THINGS = """book books libro libros m|letter letters carta cartas f|window windows ventana ventanas f|door doors puerta puertas f|
car cars coche coches m|table tables mesa mesas f|house houses casa casas f|bridge bridges puente puentes m|
picture pictures cuadro cuadros m|map maps mapa mapas m|shirt shirts camisa camisas f|key keys llave llaves f|
apple apples manzana manzanas f|boat boats barco barcos m|bicycle bicycles bicicleta bicicletas f|song songs canción canciones f|
newspaper newspapers periódico periódicos m|flower flowers flor flores f|tree trees árbol árboles m|box boxes caja cajas f"""
LATER = """lamp lamps lámpara lámparas f|clock clocks reloj relojes m|chair chairs silla sillas f|garden gardens jardín jardines m"""
PEOPLE = """girl girls niña niñas f|boy boys niño niños m|teacher teachers maestra maestras f|doctor doctors médico médicos m|
friend friends amigo amigos m|sister sisters hermana hermanas f|brother brothers hermano hermanos m|
neighbour neighbours vecino vecinos m|woman women mujer mujeres f|man men hombre hombres m|farmer farmers granjero granjeros m|
student students estudiante estudiantes m|queen queens reina reinas f|sailor sailors marinero marineros m"""
PLACES = """school schools escuela escuelas f|park parks parque parques m|village villages pueblo pueblos m|kitchen kitchens cocina cocinas f|
market markets mercado mercados m|river rivers río ríos m|station stations estación estaciones f|church churches iglesia iglesias f|
library libraries biblioteca bibliotecas f|office offices oficina oficinas f"""
ADJECTIVES = """red rojo roja|white blanco blanca|black negro negra|old viejo vieja|new nuevo nueva|small pequeño pequeña|
expensive caro cara|broken roto rota|yellow amarillo amarilla|clean limpio limpia|tall alto alta|quiet tranquilo tranquila"""
# English third person and plain form; Spanish third person singular and plural, first person.
VERBS = """sees see ve ven veo|buys buy compra compran compro|paints paint pinta pintan pinto|sells sell vende venden vendo|
finds find encuentra encuentran encuentro|wants want quiere quieren quiero|cleans clean limpia limpian limpio|
carries carry lleva llevan llevo|has have tiene tienen tengo|needs need necesita necesitan necesito|draws draw dibuja dibujan dibujo|
forgets forget olvida olvidan olvido"""
TIMES = (
    ("today", "hoy", "0-0"),
    ("tomorrow", "mañana", "0-0"),
    ("every day", "todos los días", "0-0 0-1 1-2"),
    ("now", "ahora", "0-0"),
    ("always", "siempre", "0-0"),
    ("at night", "por la noche", "0-0 0-1 1-2"),
    ("on Mondays", "los lunes", "0-0 1-1"),
    ("again", "otra vez", "0-0 0-1"),
)
WHERE = {"in": "en", "near": "cerca de", "behind": "detrás de", "for": "para", "from": "de", "to": "a"}
ARTICLES = {
    "the": ("el", "la", "los", "las"),
    "a": ("un", "una", None, None),
    "some": (None, None, "unos", "unas"),
    "this": ("este", "esta", None, None),
    "these": (None, None, "estos", "estas"),
    "my": ("mi", "mi", "mis", "mis"),
    "our": ("nuestro", "nuestra", "nuestros", "nuestras"),
    "two": (None, None, "dos", "dos"),
}


class Phrase:
    """Words of both languages and the links between them."""

    def __init__(self, english, spanish, links):
        self.english, self.spanish = english.split(), spanish.split()
        pairs = links.split() if isinstance(links, str) else links
        self.links = {tuple(map(int, p.split("-"))) if isinstance(p, str) else p for p in pairs}

    def __add__(self, other):
        down, right = len(self.english), len(self.spanish)
        joined = Phrase("", "", "")
        joined.english, joined.spanish = self.english + other.english, self.spanish + other.spanish
        joined.links = self.links | {(i + down, j + right) for i, j in other.links}
        return joined


def words(table):
    return [row.split() for row in table.replace("\n", "").split("|")]


def noun_phrase(rng, nouns, plural=None):
    """A noun with its article, often with an adjective; and whether it is plural."""
    plural = rng.random() < 0.3 if plural is None else plural
    one, many, uno, muchos, gender = rng.choice(nouns)
    column = 2 * plural + (gender == "f")
    article = rng.choice([name for name, forms in ARTICLES.items() if forms[column]])
    noun, nombre, el = (many if plural else one), (muchos if plural else uno), ARTICLES[article][column]
    if rng.random() < 0.4:
        adjective, masculine, feminine = rng.choice(words(ADJECTIVES))
        ending = (feminine if gender == "f" else masculine) + ("s" if plural else "")
        article = "an" if article == "a" and adjective[0] in "aeiou" else article
        return Phrase(f"{article} {adjective} {noun}", f"{el} {nombre} {ending}", "0-0 1-2 2-1"), plural
    article = "an" if article == "a" and noun[0] in "aeiou" else article
    return Phrase(f"{article} {noun}", f"{el} {nombre}", "0-0 1-1"), plural


def place(rng, nouns):
    """A preposition with a noun; `de el` and `a el` become one word, as Spanish has it."""
    english = rng.choice(list(WHERE))
    spanish, (phrase, _) = WHERE[english].split(), noun_phrase(rng, nouns)
    front = Phrase(english, " ".join(spanish), [(0, j) for j in range(len(spanish))])
    joined = front + phrase
    last = len(spanish) - 1
    if spanish[-1] in ("de", "a") and joined.spanish[last + 1] == "el":
        joined.spanish[last : last + 2] = ["del" if spanish[-1] == "de" else "al"]
        joined.links = {(i, j - (j > last)) for i, j in joined.links}
    return joined


def sentence(rng, things):
    people, places = words(PEOPLE), words(PLACES)
    sees, see, ve, ven, veo = rng.choice(words(VERBS))
    kind = rng.random()
    if kind < 0.45:
        subject, plural = noun_phrase(rng, people)
        whole = subject + Phrase(see if plural else sees, ven if plural else ve, "0-0")
        whole += noun_phrase(rng, things)[0]
    elif kind < 0.6:
        whole = Phrase(f"I {see}", veo, "0-0 1-0") + noun_phrase(rng, things)[0]
    elif kind < 0.75:
        subject, plural = noun_phrase(rng, people)
        do = "do" if plural else "does"
        whole = subject + Phrase(f"{do} not {see}", f"no {ven if plural else ve}", "0-0 1-0 2-1")
        whole += noun_phrase(rng, things)[0]
    elif kind < 0.85:
        plural = rng.random() < 0.4
        verb = Phrase("there are" if plural else "there is", "hay", "0-0 1-0")
        whole = verb + noun_phrase(rng, things, plural)[0]
    else:
        thing, plural = noun_phrase(rng, things)
        owner, _ = noun_phrase(rng, people)
        of = Phrase("of", "de", "0-0") + owner
        if of.spanish[1] == "el":
            of.spanish[0:2] = ["del"]
            of.links = {(i, max(0, j - 1)) for i, j in of.links}
        adjective, masculine, feminine = rng.choice(words(ADJECTIVES))
        nouns = {form: n[4] for n in things for form in n[2:4]}
        gender = next(nouns[w] for w in thing.spanish if w in nouns)
        ending = (feminine if gender == "f" else masculine) + ("s" if plural else "")
        be = Phrase(("are " if plural else "is ") + adjective, ("son " if plural else "es ") + ending, "0-0 1-1")
        whole = thing + of + be
    if rng.random() < 0.4:
        whole += place(rng, places)
    if rng.random() < 0.35:
        whole += Phrase(*rng.choice(TIMES))
    return whole + Phrase(".", ".", "0-0")


def main():
    rng = random.Random(7)
    folder = Path(__file__).parent / "bitext"
    seen, parts = set(), {"train": [], "test": []}
    for part, count, things in (("train", 540, words(THINGS)), ("test", 60, words(THINGS) + words(LATER))):
        while len(parts[part]) < count:
            made = sentence(rng, things)
            if tuple(made.english) not in seen:
                seen.add(tuple(made.english))
                parts[part].append(made)
    folder.mkdir(exist_ok=True)
    for part, made in parts.items():
        for language in ("english", "spanish"):
            lines = "".join(" ".join(getattr(each, language)) + "\n" for each in made)
            (folder / f"{part}.{language[:2].replace('sp', 'es')}").write_text(lines, encoding="utf-8")
    links = ("".join(" ".join(f"{i}-{j}" for i, j in sorted(each.links)) + "\n") for each in parts["test"])
    (folder / "test.links").write_text("".join(links), encoding="utf-8")


if __name__ == "__main__":
    main()
