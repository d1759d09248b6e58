"""Composes the sample corpus `samples/ner` from sentence patterns and names; `python samples/compose_ner.py` rewrites it.

Everything here was written for this project. The parts differ where a tagger has to generalise: dev and test have
patterns of their own and names that training never shows, and many names are ambiguous (Jordan, Washington, Amazon,
Ford, May; a bill and Bill, a mark and Mark).
"""

import random
import re
from pathlib import Path

GIVEN = """Mary John Anna Peter Sofia Tom Lucy David Emma Paul Nina Omar Grace Victor Clara Hugo Ines Leo Marta Oscar Ruth
Samuel Tara Walter Yara Boris Diana Felix Greta Ivan Julia Karl Lena Miguel Nora Otto Petra Quentin Rosa Simon Mark Bill
Will May Rose Jordan Paris Chelsea Florence Austin Carlos Aisha Mehmet Elif Hana Jan Pavel Eva Priya Ravi Mei Kenji Yuki
Amara Kofi Zola Linnea Bjorn Astrid""".split()
GIVEN_LATER = """Tobias Freya Dario Maeve Ronan Selma Idris Noor Tomasz Agata Beatriz Rui Sanne Joost Aoife Cormac Leila
Farid Svetlana Dmitri Chiara Matteo Wanjiru Thabo Akira Saki Dakota Virginia Sydney Frank Grant Hope""".split()
FAMILY = """Smith Jones Novak Brown Garcia Miller Davis Kowalski Rossi Silva Petrov Okafor Tanaka Singh Nguyen Hansen Keller
Moreau Dubois Fischer Weber Larsen Costa Ferrari Ford Washington Lincoln Hamilton Wells Marsh Stone Baker Cook Hill Rivers
Young Banks Church Price Woods Berger Demir Yilmaz Horak Svoboda Mensah Diallo Haddad Farouk Levy Katz Ito Sato Kim Park Chen
Ortega Vargas""".split()
FAMILY_LATER = """Lindqvist Abernathy Castellanos Drummond Eriksen Fitzgerald Galloway Hoffmann Iversen Janssen Kruger Lombardi
McKenna Nakamura Oduya Pettersson Quigley Radcliffe Sokolov Thornbury Underhill Vasquez Whitfield Zielinski Field Bishop
Marshall Dallas Lane Knight""".split()
PLACES = """Oslo|Lima|Paris|London|Berlin|Prague|Madrid|Rome|Vienna|Lisbon|Athens|Cairo|Nairobi|Lagos|Accra|Tokyo|Osaka|Seoul|
Hanoi|Delhi|Mumbai|Sydney|Perth|Auckland|Toronto|Montreal|Chicago|Boston|Denver|Austin|New York|Los Angeles|San Diego|
Buenos Aires|Rio de Janeiro|Mexico City|Bogota|Quito|Norway|Peru|France|Germany|Spain|Italy|Egypt|Kenya|Japan|India|Canada|
Brazil|Turkey|Jordan|Georgia|Washington|Virginia|Florence|Chelsea|the Alps|the Amazon|the Nile|the Rhine|Lake Victoria|
Mount Kenya|the Black Sea|South Africa|New Zealand|Cape Town|Santa Cruz|Little Bridge|Millbrook|Ashford|Stonehaven|
Hamilton|Lincoln|Victoria|Phoenix|Orlando""".replace("\n", "").split("|")
PLACES_LATER = """Reykjavik|Tallinn|Riga|Vilnius|Sarajevo|Tbilisi|Baku|Almaty|Kathmandu|Dhaka|Manila|Jakarta|Kampala|Dakar|Tunis|
Casablanca|Valparaiso|Medellin|Guadalajara|Winnipeg|Halifax|Salt Lake City|Baton Rouge|Port Louis|Estonia|Latvia|Bolivia|
Ecuador|Nepal|Uganda|Senegal|the Andes|the Danube|the Volga|Lake Titicaca|the Red Sea|West Harbour|Oakridge|Dunmore|
Thornhill|Bishopton|San Marino|Ivory Coast""".replace("\n", "").split("|")
FIRMS = """Amazon|Apple|Ford|Shell|Orange|Target|Visa|Siemens|Nokia|Toyota|Samsung|Northwind|Blue Harbour|Acme Tools|
Riverside Bank|Bank of Lisbon|First Union|Global Freight|Sunrise Airlines|Nordic Air|Delta Foods|Green Valley Farms|
Hill & Sons|Baker Brothers|Miller Steel|Stone Press|the Daily Courier|the Evening Post|Reuters|the World Bank|
the United Nations|the Red Cross|the European Union|UNESCO|NATO|FIFA|the Labour Party|the Green Party|the Senate|
the Ministry of Health|the Ministry of Finance|Oxford University|the University of Oslo|Kenya Airways|Air Peru|
Chelsea|Arsenal|Liverpool|Ajax|Porto|Boca Juniors|the Boston Rovers|the Denver Hawks|Real Madrid|Lincoln College|
Washington Institute|Marsh Laboratories|Park Street Hospital|Nile Shipping|Phoenix Energy|Victoria Mining|Hamilton Motors""".replace("\n", "").split("|")
FIRMS_LATER = """Volvo|Philips|Bosch|Gap|Oracle|Brightwater|Castle Insurance|Eastern Rail|Fairview Clinic|Galaxy Records|
Harbour Pharma|Iron Bridge Capital|Juniper Robotics|Kestrel Aviation|Lighthouse Media|Meridian Bank|Orchard Foods|
Pioneer Textiles|the Morning Herald|the Court of Appeal|the Liberal Party|the Central Bank of Nepal|the University of Riga|
Tallinn Polytechnic|UNICEF|the Arctic Council|Halifax United|the Winnipeg Wolves|Dakar City|Danube Logistics|Knight & Lane|
Bishop Industries|Dallas Instruments""".replace("\n", "").split("|")
OTHERS = """Norwegian|Peruvian|French|German|Spanish|Italian|Egyptian|Kenyan|Japanese|Indian|Canadian|Brazilian|Turkish|Czech|
Dutch|Greek|Portuguese|Chinese|Korean|British|American|African|European|Catholic|Buddhist|Muslim""".replace("\n", "").split("|")
OTHERS_LATER = """Estonian|Latvian|Nepali|Ugandan|Bolivian|Icelandic|Georgian|Danish|Swedish|Hungarian|Asian|Jewish|Hindu|
Ecuadorian|Senegalese""".replace("\n", "").split("|")
EVENTS = """World Cup|Olympic Games|Christmas|Easter|Ramadan|the Second World War|the Cold War|the Nobel Prize|Wimbledon|
the Boston Marathon|the Venice Festival|the Paris Agreement|Jazz Week|the Harvest Fair|the Asia Cup""".replace("\n", "").split("|")
EVENTS_LATER = """the Winter Games|Hanukkah|Diwali|the Baltic Cup|the Booker Prize|the Kyoto Protocol|Roland Garros|
the Lantern Festival|the Hundred Years War|the Danube Marathon""".replace("\n", "").split("|")
WORKS = """The Silent River|Hamlet|War and Peace|Moby Dick|A Winter in Rome|Blue Moon|The Glass City|Letters from Nowhere""".split("|")
WORKS_LATER = """Macbeth|The Last Orchard|Northern Lights|Roads to Riga|The Clockmaker|Salt and Stone""".split("|")

PATTERNS = """
{PER} flew from {LOC} to {LOC} on {day} .
{PER} was born in {LOC} and grew up in {LOC} .
{ORG} said on {day} that it would open {num} shops in {LOC} .
Shares of {ORG} fell {num} percent after the report .
The {MISC} government rejected the plan of {ORG} .
{PER} , {num} , has worked for {ORG} since {year} .
{LOC} , {month} {num} : heavy rain closed the road to {LOC} .
{PER} beat {PER} in the final of {EVENT} .
{ORG} lost {num} - {num} against {ORG} in {LOC} .
" We will not sell , " said {PER} , who leads {ORG} .
The {MISC} minister met {PER} in {LOC} last {day} .
After the war {PER} moved to {LOC} , where she wrote {WORK} .
Will you call {PER} before {day} ?
May I see the bill , please ?
The bill was passed by {ORG} in {month} .
{PER} paid the bill and left for {LOC} .
Mark the page and give the book to {PER} .
The mark on the wall was found by {PER} .
{ORG} and {ORG} signed a contract worth {num} million euros .
Temperatures in {LOC} reached {num} degrees on {day} .
{PER} teaches {MISC} at {ORG} .
The {MISC} team arrived in {LOC} without its captain , {PER} .
A {MISC} ship sank near {LOC} ; {num} sailors are missing .
{PER} and {PER} will sing in {LOC} during {EVENT} .
Oil prices rose again , {ORG} reported from {LOC} .
In {year} , {ORG} moved its head office from {LOC} to {LOC} .
He ate an apple under the rose tree and thought of {LOC} .
The target was missed by {num} metres .
An orange train runs between {LOC} and {LOC} every hour .
Nobody in {LOC} had heard of {PER} .
{PER} won {EVENT} in {year} for her work on {WORK} .
{ORG} hired {PER} as its new director .
Dr. {PER} of {ORG} warned that the disease may return in {month} .
Judge {PER} sent the case back to {ORG} .
President {PER} will visit {LOC} , {LOC} and {LOC} this spring .
Mr. {FAMILY} denied that he had met Mrs. {FAMILY} in {LOC} .
The river was frozen , and the young cook walked home along the banks .
The church on the hill is older than the town .
The price of bread doubled within a year .
Hope is not a plan , said {PER} .
{LOC} 's mayor , {PER} , opened the bridge .
{PER} 's brother plays for {ORG} .
The police in {LOC} arrested {num} people after the match between {ORG} and {ORG} .
Tickets for {EVENT} are sold out .
She reads {WORK} every winter .
Critics in {LOC} called {WORK} dull .
{ORG} , based in {LOC} , makes steel and glass .
Farmers near {LOC} fear for the harvest .
The train from {LOC} was {num} minutes late .
{num} students from {LOC} took part in {EVENT} .
" Where is {FAMILY} ? " asked {GIVEN} .
{GIVEN} laughed , but {GIVEN} did not .
Dear {GIVEN} , thank you for your letter from {LOC} .
The {MISC} writer {PER} died in {LOC} in {year} .
It was cold in {month} , and the woods near {LOC} were white .
They crossed {LOC} on foot .
{ORG} cut {num} jobs in its {MISC} plants .
A spokesman for {ORG} could not be reached .
{PER} scored twice as {ORG} beat {ORG} .
{ORG} ( {LOC} ) - {ORG} ( {LOC} ) {num} : {num}
1. {PER} ( {LOC} ) {num} points
2. {PER} ( {LOC} ) {num} points
{LOC} {day} : sun , {num} degrees , light wind
Weather for {LOC} and {LOC} on page {num} .
All members of {ORG} voted for {PER} .
{PER} left {ORG} to join {ORG} for {num} million dollars .
Most {MISC} voters trust {ORG} more than {ORG} .
The {MISC} language has {num} cases .
Experts from {ORG} will inspect the plant in {LOC} .
Before {EVENT} , the streets of {LOC} are full of lights .
My sister lives in {LOC} ; my brother works for {ORG} .
No one knows why {PER} never returned to {LOC} .
The spring was dry , and the wells of the village were empty .
At the banks , people stood in line for hours .
The captain will grant an interview after the game .
{GIVEN} and {GIVEN} {FAMILY} bought a house near {LOC} .
{ORG} expects sales of {num} billion in {year} .
The road climbs from {LOC} towards {LOC} .
Swim in {LOC} ? Not in {month} !
{PER} thanked {ORG} , {ORG} and the people of {LOC} .
"""
PATTERNS_LATER = """
Born in {LOC} , {PER} joined {ORG} at the age of {num} .
Doctors at {ORG} said {PER} would recover .
According to {ORG} , exports to {LOC} dropped by {num} percent .
{PER} ( {ORG} ) finished second , ahead of {PER} of {LOC} .
The {MISC} film {WORK} was shown at {EVENT} .
Two ferries link {LOC} with {LOC} in summer .
In the end it was {GIVEN} who opened the door .
{ORG} shares closed higher , while {ORG} lost ground .
Neither {PER} nor {PER} wanted to comment .
Thousands marched through {LOC} against {ORG} .
What did {FAMILY} say about {LOC} ?
The knight in the story never reaches the field .
Hundreds of {MISC} tourists were stranded in {LOC} .
{ORG} has named {PER} its chair for {year} .
From {LOC} one can see {LOC} on clear days .
The lane behind the church leads to the marsh .
The coach of {ORG} , {PER} , praised his {MISC} striker .
{PER} studied at {ORG} before moving to {LOC} .
Snow fell in {LOC} , {LOC} and as far south as {LOC} .
Will the price of apples fall in May ?
"""

FILL = {
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "month": "January February March April May June July August September October November December".split(),
}
PARTS = {"train": (700, 0.0, 1), "dev": (120, 0.45, 2), "test": (140, 0.45, 3)}


def names(later, rng, share):
    """A function that draws a name of a kind: with probability `share` one that training never shows."""
    known = {
        "GIVEN": GIVEN, "FAMILY": FAMILY, "LOC": PLACES, "ORG": FIRMS, "MISC": OTHERS, "EVENT": EVENTS, "WORK": WORKS,
    }
    unknown = {
        "GIVEN": GIVEN_LATER, "FAMILY": FAMILY_LATER, "LOC": PLACES_LATER, "ORG": FIRMS_LATER, "MISC": OTHERS_LATER,
        "EVENT": EVENTS_LATER, "WORK": WORKS_LATER,
    }

    def draw(kind):
        return rng.choice((unknown if later and rng.random() < share else known)[kind])

    return draw


def sentence(pattern, draw, rng):
    """`[(token, tag)]` of one pattern."""
    words = []
    for piece in pattern.split():
        slot = re.fullmatch(r"\{(\w+)\}", piece)
        if not slot:
            words.append((piece, "O"))
            continue
        kind = slot[1]
        if kind == "num":
            words.append((str(rng.choice([rng.randint(1, 9), rng.randint(10, 99), rng.randint(100, 900)])), "O"))
        elif kind == "year":
            words.append((str(rng.randint(1890, 2025)), "O"))
        elif kind in FILL:
            words.append((rng.choice(FILL[kind]), "O"))
        else:
            if kind == "PER":
                style = rng.random()
                name = draw("GIVEN") + " " + draw("FAMILY") if style < 0.75 else draw("FAMILY")
                if style < 0.08:
                    name = f"{rng.choice('ABCDEFGHJKLMNPRST')}. {draw('FAMILY')}"
            else:
                name = draw(kind)
            tag = {"GIVEN": "PER", "FAMILY": "PER", "EVENT": "MISC", "WORK": "MISC"}.get(kind, kind)
            tokens = name.split()
            if tokens[0] == "the":
                words.append(("The" if not words else "the", "O"))
                tokens = tokens[1:]
            words += [(token, f"{'I' if index else 'B'}-{tag}") for index, token in enumerate(tokens)]
    return words


def main():
    folder = Path(__file__).parent / "ner"
    folder.mkdir(exist_ok=True)
    patterns = [line for line in PATTERNS.splitlines() if line]
    later = [line for line in PATTERNS_LATER.splitlines() if line]
    for part, (count, share, seed) in PARTS.items():
        rng = random.Random(seed)
        draw = names(part != "train", rng, share)
        pool, seen, lines = [], set(), []
        while len(seen) < count:
            if not pool:
                pool = patterns + (later * 3 if part != "train" else [])
                rng.shuffle(pool)
            words = sentence(pool.pop(), draw, rng)
            if tuple(words) not in seen:
                seen.add(tuple(words))
                lines += [f"{token}\t{tag}" for token, tag in words] + [""]
        (folder / f"{part}.conll").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
