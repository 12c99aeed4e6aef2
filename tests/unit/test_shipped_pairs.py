"""The shipped sets of pairs: their shape, their rows against a second source, and whether tasks can be confused."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from patchboard.errors import SpecError, TaskError
from patchboard.execution.planned import plan_study
from patchboard.plan.validate import check_study
from patchboard.spec import study_of
from patchboard.spec.sections import TasksSection
from patchboard.tasks.base import NULL, distinct
from patchboard.tasks.families.pairs import Pairs
from patchboard.tasks.pair_sets import FOLDER, set_names
from patchboard.tasks.resolve import build_family

ROOT = Path(__file__).parents[2]
SETS = {
    "countries": ("capital", "continent", "currency", "demonym", "language"),
    "nouns": ("article", "capitalised", "first-letter", "french", "german", "plural", "spanish", "uppercase"),
    "verbs": (
        "agent", "capitalised", "first-letter", "french", "future", "participle", "past", "spanish", "third-person",
        "uppercase",
    ),
}  # fmt: skip


def family_of(name: str, **more) -> Pairs:
    section = TasksSection.model_validate({"family": "pairs", "set": name, "include_null": False, **more})
    return build_family(section, embedded=False)  # pyright: ignore[reportReturnType]


def answers(name: str, task: str) -> dict[str, set[str]]:
    return {item.input: item.right(task) for item in family_of(name, only=[task]).pool(0)}


def firsts(name: str, task: str) -> dict[str, str]:
    return {item.input: item.answers[task] for item in family_of(name, only=[task]).pool(0)}


@pytest.mark.parametrize("name", SETS)
def test_a_set_has_100_inputs_each_once_with_an_answer_under_every_task(name):
    assert set_names() == sorted(SETS)
    family = family_of(name)
    assert family.tasks == SETS[name]
    pool, merged = distinct(family.pool(0))
    assert (len(pool), merged.inputs) == (100, 0)
    assert all(item.answers.keys() == set(family.tasks) and item.input.isascii() for item in pool)
    counts = family.describe()["tasks"]
    assert {(c["inputs"], c["repeated"], c["contradicting"]) for c in counts.values()} == {(100, 0, 0)}
    texts = [text for item in pool for task in family.tasks for text in (item.input, *item.right(task))]
    assert all(text == text.strip() and "  " not in text for text in texts)
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{task}`" in told.split(f"\n## {name}\n")[1].split("\n## ")[0] for task in family.tasks)


TOLD = {
    ("countries", "demonym", "language"): 61,  # the French speak French
    ("nouns", "capitalised", "german"): 99,  # Wolf
    ("verbs", "french", "spanish"): 99,  # dormir
}


def test_tasks_of_a_set_answer_the_same_inputs_otherwise():
    """Of 100 inputs, those where no answer of one task is right under the other: all, but for three pairs of tasks."""
    apart = {}
    for name in SETS:
        pool = family_of(name).pool(0)
        for pair in combinations(SETS[name], 2):
            apart[(name, *pair)] = sum(item.right(pair[0]).isdisjoint(item.right(pair[1])) for item in pool)
    assert {key: count for key, count in apart.items() if count < 100} == TOLD


def test_english_answers_that_demonstrations_show_are_ascii():
    foreign = {"french", "german", "spanish"}
    shown = {text for name in SETS for task in {*SETS[name]} - foreign for text in firsts(name, task).values()}
    assert all(text.isascii() for text in shown)
    for task, letters in {"french": "àâçèéêëîïôûùüœ", "german": "ÄÖÜäöüß", "spanish": "áéíñóúü"}.items():
        words = "".join(
            text for name in SETS if task in SETS[name] for each in answers(name, task).values() for text in each
        )
        assert set(re.findall(r"[^\x00-\x7f]", words)) <= set(letters) and not words.isascii()


DOUBLED = {"dig", "rob", "run", "swim", "win"}
IRREGULAR = {
    "begin": "began", "break": "broke", "build": "built", "buy": "bought", "choose": "chose", "dig": "dug",
    "draw": "drew", "drink": "drank", "drive": "drove", "eat": "ate", "find": "found", "forgive": "forgave",
    "freeze": "froze", "give": "gave", "hear": "heard", "hide": "hid", "lend": "lent", "lose": "lost",
    "make": "made", "run": "ran", "seek": "sought", "sell": "sold", "send": "sent", "shoot": "shot", "sing": "sang",
    "sleep": "slept", "speak": "spoke", "swim": "swam", "teach": "taught", "think": "thought", "weave": "wove",
    "win": "won", "write": "wrote",
}  # fmt: skip
ADDED_OR = {
    "act", "calculate", "conquer", "contribute", "create", "cultivate", "decorate", "dictate", "educate",
    "generate", "govern", "illustrate", "imitate", "inspect", "invent", "liberate", "navigate", "negotiate",
    "protect", "sculpt", "survive", "translate", "visit",
}  # fmt: skip


def joined(verb: str, ending: str) -> str:
    """The verb with an ending that begins with a vowel: 'e' dropped, or a consonant doubled."""
    if verb.endswith("e"):
        return verb[:-1] + ending
    return verb + (verb[-1] if verb in DOUBLED | {"begin"} else "") + ending


def with_s(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def test_inflections_of_verbs_are_those_of_the_rules_and_the_irregular_ones():
    past, participle, third = (answers("verbs", task) for task in ("past", "participle", "third-person"))
    future, agent = answers("verbs", "future"), answers("verbs", "agent")
    assert IRREGULAR.keys() | ADDED_OR | DOUBLED < past.keys()
    for verb in past:
        assert past[verb] - {"weaved"} == {IRREGULAR.get(verb, joined(verb, "ed"))}
        assert participle[verb] == {joined(verb, "ing")}
        assert third[verb] == {with_s(verb)}
        assert future[verb] == {f"will {verb}"}
        assert agent[verb] == {joined(verb, "or" if verb in ADDED_OR else "er")}


PLURALS = {
    "child": "children", "foot": "feet", "goose": "geese", "knife": "knives", "leaf": "leaves", "man": "men",
    "mouse": "mice", "tooth": "teeth", "wolf": "wolves", "woman": "women",
}  # fmt: skip


def test_plurals_and_articles_are_those_of_the_rules_and_the_irregular_ones():
    plural, article = answers("nouns", "plural"), answers("nouns", "article")
    assert PLURALS.keys() < plural.keys()
    for noun in plural:
        assert plural[noun] == {PLURALS.get(noun, with_s(noun))}
        assert article[noun] == {f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"}


@pytest.mark.parametrize("name", ["nouns", "verbs"])
def test_spellings_are_the_input_spelled_otherwise(name):
    spellings = {"capitalised": str.title, "uppercase": str.upper, "first-letter": lambda word: word[:1]}
    for task, spelled in spellings.items():
        assert answers(name, task) == {word: {spelled(word)} for word in answers(name, task)}


def test_german_nouns_are_capitalised_and_romance_verbs_are_infinitives():
    assert all(text.istitle() for texts in answers("nouns", "german").values() for text in texts)
    assert all(re.fullmatch(r"\w+(er|ir|re)", t) for texts in answers("verbs", "french").values() for t in texts)
    assert all(re.fullmatch(r"\w+([aei]r|ír)|dar", t) for texts in answers("verbs", "spanish").values() for t in texts)
    for task in ("french", "spanish"):
        assert all(text.islower() for texts in answers("nouns", task).values() for text in texts)


# Written a second time, from the other side: which countries a continent, a language or a currency has
MEMBERS = {
    "continent": {
        "Africa": (
            "Algeria, Angola, Egypt, Ethiopia, Gambia, Ghana, Guinea, Kenya, Liberia, Libya, Mauritania, Morocco, "
            "Mozambique, Namibia, Nigeria, Sierra Leone, Somalia, Sudan, Tunisia, Zambia"
        ),
        "Asia": (
            "Bahrain, Bangladesh, Bhutan, Cambodia, China, India, Iran, Iraq, Japan, Jordan, Kuwait, Laos, "
            "Lebanon, Nepal, North Korea, Oman, Pakistan, Qatar, Russia, Saudi Arabia, South Korea, Syria, "
            "Tajikistan, Thailand, Turkey, Turkmenistan, United Arab Emirates, Uzbekistan, Vietnam"
        ),
        "Europe": (
            "Albania, Austria, Croatia, Czech Republic, Denmark, Estonia, Finland, France, Germany, Greece, "
            "Hungary, Iceland, Ireland, Italy, Latvia, Lithuania, Netherlands, Norway, Poland, Portugal, Romania, "
            "Russia, Serbia, Slovakia, Spain, Sweden, Turkey, Ukraine, United Kingdom"
        ),
        "North America": (
            "Barbados, Belize, Canada, Cuba, Dominican Republic, El Salvador, Guatemala, Honduras, Jamaica, "
            "Mexico, Nicaragua, Panama, United States"
        ),
        "South America": "Argentina, Brazil, Chile, Colombia, Ecuador, Guyana, Peru, Suriname, Uruguay, Venezuela",
        "Oceania": "Australia",
    },
    "currency": {
        "euro": (
            "Austria, Croatia, Estonia, Finland, France, Germany, Greece, Ireland, Italy, Latvia, Lithuania, "
            "Netherlands, Portugal, Slovakia, Spain"
        ),
        "dollar": (
            "Australia, Barbados, Belize, Canada, Ecuador, El Salvador, Guyana, Jamaica, Liberia, Namibia, "
            "Panama, Suriname, United States"
        ),
        "peso": "Argentina, Chile, Colombia, Cuba, Dominican Republic, Mexico, Uruguay",
        "dinar": "Algeria, Bahrain, Iraq, Jordan, Kuwait, Libya, Serbia, Tunisia",
        "pound": "Egypt, Lebanon, Sudan, Syria, United Kingdom",
        "rupee": "India, Nepal, Pakistan",
        "shilling": "Kenya, Somalia",
        "dirham": "Morocco, United Arab Emirates",
        "rial": "Iran, Oman",
        "riyal": "Qatar, Saudi Arabia",
        "won": "North Korea, South Korea",
        "krone": "Denmark, Norway",
        "krona": "Iceland, Sweden",
        "lira": "Lebanon, Syria, Turkey",
    },
    "language": {
        "Arabic": (
            "Algeria, Bahrain, Egypt, Iraq, Jordan, Kuwait, Lebanon, Libya, Mauritania, Morocco, Oman, Qatar, "
            "Saudi Arabia, Sudan, Syria, Tunisia, United Arab Emirates"
        ),
        "English": (
            "Australia, Barbados, Belize, Canada, Gambia, Ghana, Guyana, India, Ireland, Jamaica, Kenya, Liberia, "
            "Namibia, Nigeria, Pakistan, Sierra Leone, United Kingdom, United States, Zambia"
        ),
        "French": "Canada, France, Guinea",
        "German": "Austria, Germany",
        "Dutch": "Netherlands, Suriname",
        "Korean": "North Korea, South Korea",
        "Portuguese": "Angola, Brazil, Mozambique, Portugal",
        "Spanish": (
            "Argentina, Chile, Colombia, Cuba, Dominican Republic, Ecuador, El Salvador, Guatemala, Honduras, "
            "Mexico, Nicaragua, Panama, Peru, Spain, Uruguay, Venezuela"
        ),
    },
    "demonym": {
        "Korean": "North Korea, South Korea",
    },
}


def test_countries_share_what_they_share_and_nothing_else():
    members: dict[tuple[str, str], set[str]] = {}
    for task in SETS["countries"]:
        for country, texts in answers("countries", task).items():
            for text in texts:
                members.setdefault((task, text), set()).add(country)
    told = {(task, text): set(names.split(", ")) for task, of in MEMBERS.items() for text, names in of.items()}
    assert {key: countries for key, countries in members.items() if len(countries) > 1 or key in told} == told


def test_a_set_is_one_of_the_sources_and_is_known():
    with pytest.raises(TaskError, match="did you mean 'verbs'") as caught:
        family_of("verb")
    assert caught.value.where == "tasks.set"
    for more, says in (
        ({"files": ["a.json"]}, "files: is given beside set"),
        ({"dataset": {"name": "a"}}, "dataset: is given beside set"),
        ({"columns": {"input": "q"}}, "columns: is given beside set; leave it out"),
    ):
        with pytest.raises(SpecError, match=says):
            family_of("verbs", **more)


def test_a_run_of_a_set_is_bound_to_no_path_and_tells_the_contents():
    family = family_of("verbs", only=["past"])
    assert not family.data_files()
    facts = family.describe()
    assert (facts["set"], [*facts["tasks"]]) == ("verbs", ["past"]) and len(facts["tasks"]["past"]["sha256"]) == 64


def test_the_shipped_spec_is_planned_with_all_its_rows_and_matched_prompts(tmp_path, monkeypatch):
    """From any folder, on a model with a vocabulary of bytes; with fewer prompts and layers, which cost time."""
    from tests.models import byte_level_tokenizer, random_model

    monkeypatch.chdir(tmp_path)
    tree = YAML(typ="safe").load(ROOT / "experiments" / "specs" / "pairs_real.yaml")
    check_study(study_of(tree))
    tokenizer = byte_level_tokenizer()
    random_model("llama", vocab_size=len(tokenizer)).save_pretrained("model")
    tokenizer.save_pretrained("model")
    tree["model"]["name"] = "model"
    tree["prompts"] |= {"shots": 1, "queries": 10}
    tree["decodability"] |= {"prompts": 4, "shots": [1]}
    for intervention in tree["interventions"].values():
        intervention["vector"] |= {"prompts": 2, "shots": 1}
        intervention["layers"] = [1]
    (plan,) = plan_study(study_of(tree))
    prompts = {group.prompts[0].task: group.prompts for group in plan.groups}
    assert len(prompts) == 8 and NULL not in prompts
    queries = {task: [prompt.text.rsplit("\n", 1)[1] for prompt in each] for task, each in prompts.items()}
    assert all(each == queries["past"] and len(set(each)) == 10 for each in queries.values())
    assert not [prompt.excluded for each in prompts.values() for prompt in each if prompt.excluded]
