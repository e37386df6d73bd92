"""The pages in a real browser: they draw, they move, they keep themselves up to date, and nothing complains."""

import shutil
from statistics import fmean

import pytest

from twofold.reporting.report import write_report

PHONE = {"width": 390, "height": 844, "has_touch": True}
FITS = "document.documentElement.scrollWidth <= innerWidth"
REFRESH = "refresh()"
"""What the page does every two seconds."""
PATHS = ".chart:has(h3:text-is('{}')) .plot g.{} path:not(.faint)"


def curve(page, title, colour):
    """The path that is drawn for a curve."""
    return page.locator(PATHS.format(title, colour)).get_attribute("d")


def points(path):
    return path.count("L") + path.count("M")


def drag(page, share):
    """Press the divider's stage at a share of its width, and move on by a tenth."""
    page.locator(".stage:visible").scroll_into_view_if_needed()
    box = page.locator(".stage:visible").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + (share - 0.1) * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + share * box["width"], y, steps=3)
    page.mouse.up()


def cut(page):
    return float(
        page.locator(".stage:visible")
        .evaluate("s => getComputedStyle(s).getPropertyValue('--cut')")
        .rstrip("%")
    )


def test_a_run_is_drawn(serve, show, run):
    run.evaluate_at(200, PSNR=18.5)
    run.evaluate_at(400, PSNR=19.5)
    page = show(serve(run.path).address)
    page.locator(".plot svg").nth(5).wait_for()
    assert points(curve(page, "Adversarial", "b")) == 40
    assert points(curve(page, "PSNR", "c")) == 2
    assert page.locator(".chart h3").all_inner_texts()[:2] == ["PSNR", "Adversarial"]
    assert page.title() == "40% · horse2zebra · twofold"
    assert page.locator(".before-after:visible").count() == 1
    assert page.evaluate(FITS)


def test_the_divider_follows_the_pointer_and_the_keys(serve, show, run):
    page = show(serve(run.path).address)
    stage = page.locator(".stage:visible")
    stage.wait_for()
    assert cut(page) == 50
    drag(page, 0.75)
    assert cut(page) == pytest.approx(75, abs=1)
    stage.locator("input").press("ArrowLeft")
    assert cut(page) == pytest.approx(74, abs=1)
    page.locator(".scenes button").nth(1).click()
    assert stage.evaluate("s => s.style.getPropertyValue('--row')") == "1"


def test_the_slider_goes_through_time_and_the_switch_to_the_other_direction(serve, show, run):
    page = show(serve(run.path).address)
    frames = page.locator(".panel:visible .frames img")
    slider = page.locator(".panel:visible .controls input")
    assert [frames.nth(k).is_visible() for k in range(3)] == [False, False, True]
    slider.press("Home")
    frames.first.wait_for()
    assert page.locator(".panel:visible .moment").inner_text() == "100 images"
    assert frames.first.evaluate("img => img.naturalWidth") == 24
    page.locator(".switch button").nth(1).click()
    assert page.locator(".panel:visible").get_attribute("data-key") == "ba"
    page.locator(".panel:visible .play").click()
    page.locator(".panel:visible .moment:text-is('300 images')").wait_for()


def test_what_is_new_appears_by_itself_and_what_was_set_stays(serve, show, run, until):
    page = show(serve(run.path).address)
    drag(page, 0.3)
    page.locator(".smoothing input").press("Home")  # none
    before = points(curve(page, "Adversarial", "b"))
    run.report_at(410)
    run.sample_at(400)
    run.evaluate_at(400, KID=0.1)
    until(lambda: page.locator(".facts dd").first.inner_text().startswith("410"))
    page.locator(".chart h3:text-is('KID')").wait_for()
    until(lambda: points(curve(page, "Adversarial", "b")) == before + 1)
    assert page.locator(".smoothing input").input_value() == "0"
    assert cut(page) == pytest.approx(30, abs=1)
    page.locator(".panel:visible .moment:text-is('400 images')").wait_for()
    assert page.locator(".panel:visible .frames img").count() == 4
    assert page.title().startswith("41%")
    assert page.locator(".lost").is_hidden()


def test_who_looks_at_an_older_grid_keeps_it(serve, show, run):
    page = show(serve(run.path).address)
    page.locator(".panel:visible .controls input").press("Home")
    page.locator(".panel:visible .frames img").first.wait_for()
    run.sample_at(400)
    page.evaluate(REFRESH)
    assert page.locator(".panel:visible .frames img").count() == 4
    assert page.locator(".panel:visible .moment").inner_text() == "100 images"
    assert page.locator(".panel:visible .frames img").first.is_visible()


def test_the_first_report_and_the_first_sample_appear(serve, show, tmp_path, made):
    run = made(tmp_path / "new", 0, 0)
    page = show(serve(run.path).address)
    assert "No sample yet" in page.locator("body").inner_text()
    run.report_at(10)
    run.sample_at(100)
    page.evaluate(REFRESH)
    page.locator(".plot svg").first.wait_for()
    page.locator(".stage:visible").wait_for()
    assert page.locator(".plot circle:visible").count() > 0  # one point is no line
    drag(page, 0.6)
    assert cut(page) == pytest.approx(60, abs=1)


def test_runs_are_selected_and_compared(serve, show, tmp_path, made):
    made(tmp_path / "one", 10)
    two = made(tmp_path / "two", 20)
    page = show(serve(tmp_path).address)
    assert page.locator(".runs li").count() == 2
    page.locator(".runs input").first.check()
    two.report_at(210)
    page.evaluate(REFRESH)
    assert "210 images" in page.locator(".runs").inner_text()
    assert page.locator(".runs input:checked").count() == 1
    page.locator(".runs input:not(:checked)").check()
    page.locator("button:text-is('Compare selected')").click()
    page.locator(".plot svg").first.wait_for()
    assert sorted(points(curve(page, "Adversarial A→B", colour)) for colour in "ab") == [10, 21]
    assert page.locator(".beside img:visible").count() == 2
    page.locator(".switch button").nth(1).click()
    two.report_at(220)
    page.evaluate(REFRESH)
    assert "220" in page.locator(".side-by-side").inner_text()
    assert page.locator(".switch [aria-pressed=true]").inner_text() == "B→A"
    page.locator(".trail a").click()
    assert page.locator(".runs input:checked").count() == 2


def test_a_second_run_makes_a_list(serve, show, tmp_path, made):
    made(tmp_path / "one")
    page = show(serve(tmp_path).address)
    page.locator("h1:text-is('one')").wait_for()
    made(tmp_path / "two")
    page.evaluate("void refresh()")  # loads the page anew
    page.locator("h1:text-is('2 runs')").wait_for()


def test_a_chart_reads_out_under_the_pointer_and_the_keys(serve, show, run):
    page = show(serve(run.path).address)
    figure = page.locator(".chart:has(h3:text-is('Learning rate'))")
    svg = figure.locator("svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    page.mouse.move(box["x"] + 46 + (box["width"] - 56) / 2, box["y"] + 100)
    assert figure.locator(".where").inner_text() in ("at 200 images", "at 190 images", "at 210 images")
    assert figure.locator("b").inner_text() == "2e-4"
    svg.press("End")
    assert figure.locator(".where").inner_text() == "at 400 images"
    svg.press("ArrowLeft")
    assert figure.locator(".where").inner_text() == "at 390 images"
    page.mouse.move(0, 0)
    svg.blur()
    assert figure.locator(".where").inner_text() == ""


def smooth(values, reach):
    """Brute force: the mean of the middle half of the neighbours within reach."""
    made = []
    for place, value in enumerate(values):
        near = sorted(v for v in values[max(0, place - reach) : place + reach + 1] if v is not None)
        middle = near[len(near) // 4 : len(near) - len(near) // 4]
        made.append(None if value is None else fmean(middle))
    return made


def test_smoothing_is_the_mean_of_the_middle_half_and_forgets_spikes(serve, show, run):
    page = show(serve(run.path).address)
    waves = [None if n % 11 == 3 else (n * 37 % 101) / 10 - 3 for n in range(120)]
    for values, reach in (
        (waves, 7),
        (waves, 300),
        ([None, None], 2),
        ([0.5] * 20 + [1e6] + [0.5] * 20, 4),
        (waves, 0),
    ):
        expected = smooth(values, reach)
        found = page.evaluate("([values, reach]) => smooth(values, reach)", [values, reach])
        assert [v is None for v in found] == [v is None for v in expected]
        assert [v for v in found if v is not None] == pytest.approx([v for v in expected if v is not None])
    assert expected == waves


def test_a_phone_shows_all_without_scrolling_sideways(serve, show, tmp_path, made):
    made(tmp_path / ("a-name-that-never-ends-" * 8))
    made(tmp_path / "two").evaluate_at(100, PSNR=1.0)
    page = show(serve(tmp_path).address, **PHONE)
    assert page.evaluate(FITS)
    for box in page.locator(".runs input").all():
        box.check()
    page.locator("button:text-is('Compare selected')").click()
    page.locator(".plot svg").first.wait_for()
    assert page.evaluate(FITS)
    page.locator(".side-by-side a").first.click()
    page.locator(".plot svg").first.wait_for()
    assert page.evaluate(FITS)


def test_light_and_dark(serve, show, run):
    address = serve(run.path).address
    paper = "getComputedStyle(document.body).backgroundColor"
    assert show(address, color_scheme="light").evaluate(paper) == "rgb(252, 251, 248)"
    assert show(address, color_scheme="dark").evaluate(paper) == "rgb(21, 23, 27)"


def test_a_warning_stands_above_a_run_whose_folder_vanished(serve, show, tmp_path, made):
    made(tmp_path / "stays")
    made(tmp_path / "goes")
    page = show(serve(tmp_path).address)
    page.locator(".runs a:has-text('goes')").click()
    page.locator("h1:text-is('goes')").wait_for()
    shutil.rmtree(tmp_path / "goes")
    page.evaluate(REFRESH)
    page.locator(".lost:has-text('moved or deleted')").wait_for()
    assert page.locator("h1").inner_text() == "goes"
    page.complaints.clear()  # the browser itself reports every 404


def test_a_warning_stands_while_the_monitor_does_not_answer(serve, show, run):
    page = show(serve(run.path).address)
    page.context.set_offline(True)
    page.evaluate(REFRESH)
    assert page.locator(".lost").inner_text() == "The monitor does not answer. Trying again."
    page.context.set_offline(False)
    page.evaluate(REFRESH)
    assert page.locator(".lost").is_hidden()
    page.complaints.clear()  # the browser itself reports every failed fetch


def test_hostile_names_are_inert(serve, show, tmp_path, made):
    evil = "<img src=x onerror=alert(1)><script>alert(2)<\\script>"
    for n in range(2):
        made(tmp_path / f"{evil}{n}").evaluate_at(1, **{evil: 1.0, "</script><script>alert(3)</script>": 2.0})
    page = show(serve(tmp_path).address)
    page.locator(".runs a").first.click()
    page.locator(".plot svg").first.wait_for()
    assert evil in page.locator("h1").inner_text()
    assert page.locator("img[src=x]").count() == 0


def test_the_report_opens_from_disk(show, run):
    write_report(run)
    page = show(run.report.as_uri(), **PHONE)
    page.locator(".plot svg").nth(4).wait_for()
    assert points(curve(page, "Adversarial", "b")) == 40
    page.locator(".stage:visible").wait_for()
    drag(page, 0.7)
    assert cut(page) == pytest.approx(70, abs=1)
    page.locator(".smoothing input").press("End")
    assert page.locator(".faint").count() > 0
    assert page.evaluate(FITS)
