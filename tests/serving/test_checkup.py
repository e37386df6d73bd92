"""The doctor's words reach the page without a page that waits."""

import threading

from twofold.evaluation.doctor import examine as doctor
from twofold.evaluation.doctor.symptoms import Finding
from twofold.serving import checkup
from twofold.serving.checkup import LOOKING, Checkups
from twofold.serving.watch import Watch

WON = Finding("critic won", "trouble", "The critic <b>won</b>.", "Try & see.")


def ill(run, monkeypatch, findings):
    monkeypatch.setattr(doctor, "examine", findings)
    (each,) = Watch([run.path]).runs().values()
    return each


def test_the_words_follow_once_the_doctor_has_looked(run, monkeypatch, until):
    begun, go = threading.Event(), threading.Event()

    def slow(run):
        begun.set()
        assert go.wait(8)
        return [WON]

    each, checkups = ill(run, monkeypatch, slow), Checkups()
    assert checkups.words(each) == LOOKING
    assert begun.wait(8)
    assert checkups.words(each) == LOOKING  # and nobody waits, nor asks twice
    go.set()
    until(lambda: checkups.words(each) != LOOKING)
    assert "The critic &lt;b&gt;won&lt;/b&gt;." in checkups.words(each)
    assert "Try &amp; see." in checkups.words(each)


def test_the_doctor_comes_again_when_something_changed_and_he_has_rested(run, monkeypatch, until):
    visits, now = [], [0.0]
    each = ill(run, monkeypatch, lambda run: visits.append(1) or [WON] * (len(visits) - 1))
    checkups = Checkups(clock=lambda: now[0])
    until(lambda: checkups.words(each) != LOOKING)
    assert "No problem found after 400 images" in checkups.words(each)
    run.report_at(410)
    now[0] = checkup.REST - 0.1
    assert "No problem found after 400 images" in checkups.words(each)
    now[0] = checkup.REST
    until(lambda: "won" in checkups.words(each))
    now[0] = 1e6
    checkups.words(each)  # nothing has changed since
    assert len(visits) == 2


def test_a_doctor_who_stumbles_says_so(run, monkeypatch):
    each = ill(run, monkeypatch, lambda run: 1 / 0)
    assert "could not look at this run: ZeroDivisionError: division by zero" in checkup.examined(each.run)
