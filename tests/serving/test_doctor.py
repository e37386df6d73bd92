"""The doctor's findings reach the page, and no page waits for them."""

import threading

from twofold.evaluation.doctor import examine
from twofold.evaluation.doctor.symptoms import Finding
from twofold.serving.doctor import PAUSE, PENDING, BackgroundDoctor
from twofold.serving.watch import Watch

WON = Finding("discriminator won", "trouble", "The discriminator <b>won</b>.", "Try & see.")


def ill(run, monkeypatch, findings):
    monkeypatch.setattr(examine, "examine", findings)
    (each,) = Watch([run.path]).runs().values()
    return each


def test_the_findings_follow_once_the_doctor_has_examined_the_run(run, monkeypatch, until):
    started, go = threading.Event(), threading.Event()

    def slow(run):
        started.set()
        assert go.wait(8)
        return [WON]

    each, doctor = ill(run, monkeypatch, slow), BackgroundDoctor()
    assert doctor.diagnosis(each) == PENDING
    assert started.wait(8)
    assert doctor.diagnosis(each) == PENDING  # and nobody waits, nor asks twice
    go.set()
    until(lambda: doctor.diagnosis(each) != PENDING)
    assert doctor.diagnosis(each).findings == [WON]


def test_a_run_is_examined_again_after_a_change_and_a_pause(run, monkeypatch, until):
    examinations, now = [], [0.0]
    each = ill(run, monkeypatch, lambda run: examinations.append(1) or [WON] * (len(examinations) - 1))
    doctor = BackgroundDoctor(clock=lambda: now[0])
    until(lambda: doctor.diagnosis(each) != PENDING)
    assert "No problem found after 400 images" in doctor.diagnosis(each).calm
    run.report_at(410)
    now[0] = PAUSE - 0.1
    assert "No problem found after 400 images" in doctor.diagnosis(each).calm
    now[0] = PAUSE
    until(lambda: doctor.diagnosis(each).findings == [WON])
    now[0] = 1e6
    doctor.diagnosis(each)  # nothing has changed since
    assert len(examinations) == 2


def test_an_error_of_the_doctor_is_shown(run, monkeypatch, until):
    each, doctor = ill(run, monkeypatch, lambda run: 1 / 0), BackgroundDoctor()
    until(lambda: doctor.diagnosis(each) != PENDING)
    words = "could not examine this run: ZeroDivisionError: division by zero"
    assert words in doctor.diagnosis(each).calm
