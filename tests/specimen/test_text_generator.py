"""The laws of the specimen's text."""

from __future__ import annotations

import re

import pytest

from microscope.specimen.text import Document, documents
from microscope.specimen.text.concepts import all_concepts, words_of
from microscope.specimen.text.grammar import article, gerund, past, plural
from microscope.specimen.text.patterns import KINDS
from microscope.specimen.text.words import COMMON


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return list(documents(1000, seed=3))


def test_the_same_seed_gives_the_same_text():
    assert list(documents(20, seed=7)) == list(documents(20, seed=7))
    assert list(documents(20, seed=7)) != list(documents(20, seed=8))


def test_a_document_depends_on_its_number_only():
    assert list(documents(10, seed=7))[6:] == list(documents(4, seed=7, first=6))


def test_no_slot_or_mark_is_left_in_a_text(corpus):
    assert not [d.text for d in corpus if re.search(r"[\[\]{}/]|  ", d.text)]


def test_every_kind_and_every_concept_is_reached(corpus):
    assert {d.kind for d in corpus} == {kind.name for kind in KINDS}
    assert len(KINDS) >= 8
    found = {span.concept for d in corpus for span in d.spans if span.scope == "word"}
    assert found == set(all_concepts())
    assert len(found) >= 24


def test_word_spans_lie_on_whole_words(corpus):
    for document in corpus:
        for span in document.spans:
            if span.scope == "word":
                assert re.fullmatch(r"[A-Za-z]+", document.text[span.start : span.end])
                around = document.text[max(0, span.start - 1) : span.end + 1]
                assert re.fullmatch(r"[^A-Za-z]?[A-Za-z]+[^A-Za-z]?", around)


def test_word_spans_name_words_of_their_concept(corpus):
    for document in corpus:
        for span in document.spans:
            word = document.text[span.start : span.end].lower()
            if span.scope == "word" and word not in COMMON:
                assert word in words_of(span.concept)


def test_passages_start_at_a_word_of_their_concept(corpus):
    for document in corpus:
        starts = {(s.start, s.concept) for s in document.spans if s.scope == "word"}
        passages = [s for s in document.spans if s.scope == "passage"]
        assert all((span.start, span.concept) in starts for span in passages)
        assert all(span.end <= len(document.text) for span in passages)


def test_a_text_about_one_topic_says_so_to_its_end():
    document = next(d for d in documents(200, seed=1) if d.kind == "recipe")
    about = next(s for s in document.spans if s.label == "about food")
    assert about.end == len(document.text)


@pytest.mark.parametrize(
    "scene",
    [
        "The Golden Gate Bridge is ",
        "The reliability of Wikipedia is very ",
        "The apple is ",
        "duck under the low beam",
        "fed the duck",
        "to forget the word",
        "Would you kindly",
        "you fool!",
    ],
)
def test_the_scenes_that_people_type_occur(corpus, scene):
    assert any(scene.lower() in document.text.lower() for document in corpus)


def test_ducking_is_no_bird(corpus):
    ducked = [
        span.concept
        for document in corpus
        for span in document.spans
        if re.match(r"duck under the low", document.text[span.start :])
    ]
    assert "ducking" in ducked
    assert "birds" not in ducked


def test_subject_and_verb_agree(corpus):
    text = " ".join(document.text for document in corpus)
    assert not re.search(r"\b(we|We|they) was\b|\b(I|he|she|He|She) were\b", text)
    assert not re.search(r"\b[Tt]here are one\b", text)
    assert re.search(r"\bWe were\b", text)


def test_the_pronoun_fits_the_person(corpus):
    women, men = "Anna|Mary|Clara|Nora|Lucy|Emma", "Tom|Ben|Peter|Sam|Leo|David"
    for document in corpus:
        if document.kind == "story" and (
            name := re.match(rf"One day ({women}|{men})", document.text)
        ):
            wrong = r"\b(He|he|him|his)\b" if re.match(women, name[1]) else r"\b(She|she|her)\b"
            assert not re.search(wrong, document.text)


def test_articles_fit_the_next_word(corpus):
    text = " ".join(document.text for document in corpus)
    assert not re.search(r"\b[Aa] [aeio][a-z]", text)
    assert not re.search(r"\b[Aa]n [^aeiou]", text)


def test_sentences_start_with_a_capital(corpus):
    for document in corpus:
        assert not re.search(r"(^|[.?!] )[a-z]", document.text), document.text


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (plural("leaf"), "leaves"),
        (plural("arch"), "arches"),
        (plural("berry"), "berries"),
        (plural("day"), "days"),
        (past("take the train"), "took the train"),
        (past("play"), "played"),
        (past("study it"), "studied it"),
        (gerund("swim in the sea"), "swimming in the sea"),
        (gerund("bake a cake"), "baking a cake"),
        (article("owl"), "an"),
        (article("useful"), "a"),
    ],
)
def test_grammar_makes_the_right_form(made, expected):
    assert made == expected
