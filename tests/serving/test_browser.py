"""The pages in a real browser: they draw, they move, they keep themselves up to date, and nothing complains."""

import shutil
from itertools import pairwise
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
    assert points(curve(page, "PSNR", "b")) == 2
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
    assert page.locator(".beside [data-images]:visible").count() == 2
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


# ---- what the reader chooses for all charts


def heights(path):
    """The vertical places of a path's points, in pixels."""
    return [float(point.split()[1]) for point in path.replace("M", "L").split("L")[1:]]


def drag_across(page, title, start, end):
    """Drag over a chart from one share of its axis to another."""
    svg = page.locator(f".chart:has(h3:text-is('{title}')) svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    left, right = (box["x"] + 46 + share * (box["width"] - 56) for share in (start, end))
    page.mouse.move(left, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(right, box["y"] + 100, steps=3)
    page.mouse.up()


def test_a_log_scale_makes_a_line_of_a_power_and_a_gap_of_zero(serve, show, tmp_path, made):
    run = made(tmp_path / "run", 0)
    for n in range(1, 11):
        run.report_at(10 * n, 0.0 if n == 10 else 2.0**-n)
    page = show(serve(run.path).address)
    page.locator(".smoothing input").press("Home")  # none
    linear = heights(curve(page, "Adversarial", "b"))
    page.get_by_label("Log scale").check()
    logarithmic = heights(curve(page, "Adversarial", "b"))
    assert len(linear) == 10 and len(logarithmic) == 9
    steps = [after - before for before, after in pairwise(logarithmic)]
    assert min(steps) > 3
    assert steps[:-1] == pytest.approx([steps[0]] * 7, abs=0.2)  # the last few are outside the scale's 98 %
    assert "loss · log scale" in page.locator(".chart:has(h3:text-is('Adversarial')) svg").inner_html()


def test_a_chart_of_values_that_are_not_positive_stays_linear_and_says_so(serve, show, tmp_path, made):
    run = made(tmp_path / "run", 0)
    for n in range(1, 11):
        run.report_at(10 * n, -0.1 * n)
    page = show(serve(run.path).address)
    before = curve(page, "Adversarial", "b")
    page.get_by_label("Log scale").check()
    assert curve(page, "Adversarial", "b") == before
    assert (
        "linear scale: not positive" in page.locator(".chart:has(h3:text-is('Adversarial')) svg").inner_html()
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-3, 1, [1e-3, 1e-2, 0.1, 1, 10]),
        (-1, 1, [0.1, 0.2, 0.5, 1, 2, 5, 10]),
        (0, 0.5, [1, 1.5, 2, 2.5, 3]),
        (-12, 0, [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1]),
    ],
)
def test_ticks_of_a_log_scale(serve, show, run, low, high, expected):
    page = show(serve(run.path).address)
    assert page.evaluate(f"logTicks({low}, {high})") == pytest.approx(expected)


def test_curves_over_time_lie_where_the_clock_says(serve, show, run):
    page = show(serve(run.path).address)  # 4 images a second
    page.locator(".view select").first.select_option("time")
    svg = page.locator(".chart:has(h3:text-is('Adversarial')) svg")
    assert "seconds of training" in svg.inner_html()
    svg.press("End")
    assert page.locator(".chart:has(h3:text-is('Adversarial')) .where").inner_text() == "at 2 min"
    run.report_at(410)
    run.report_at(2000)
    page.evaluate(REFRESH)
    assert "minutes of training" in svg.inner_html()
    assert page.locator(".view select").first.input_value() == "time"


def test_time_between_two_reports_is_on_a_line(serve, show, run):
    page = show(serve(run.path).address)
    page.evaluate("clocks = {a: [[0, 10, 30], [0, 5, 45]]}")
    assert page.evaluate("seconds('a', [0, 5, 10, 20, 30, 99])") == [0, 2.5, 5, 25, 45, 45]
    assert page.evaluate("seconds('b', [1])") is None


def test_a_run_without_times_says_so(serve, show, run):
    run.timing.unlink()
    page = show(serve(run.path).address)
    page.locator(".view select").first.select_option("time")
    assert "recorded no times" in page.locator(".chart svg").first.inner_html()


def test_dragging_zooms_all_charts_until_a_double_click(serve, show, run):
    page = show(serve(run.path).address)
    whole = points(curve(page, "Adversarial", "b"))
    drag_across(page, "Adversarial", 0.5, 0.75)  # 200 to 300 of 400 images
    for title, colour in (("Adversarial", "b"), ("Cycle", "a"), ("Throughput", "d")):
        assert points(curve(page, title, colour)) in (10, 11)
    assert page.locator(".view select").last.input_value() == ""
    run.report_at(410)
    page.evaluate(REFRESH)
    assert points(curve(page, "Adversarial", "b")) in (10, 11)
    page.locator(".chart:has(h3:text-is('Cycle')) svg").dblclick(position={"x": 200, "y": 100})
    assert points(curve(page, "Adversarial", "b")) == whole + 1
    assert page.locator(".view select").last.input_value() == "1"


def test_the_end_of_a_run_can_be_chosen_and_keys_zoom(serve, show, run):
    page = show(serve(run.path).address, **PHONE)
    page.locator(".view select").last.select_option("0.2")
    assert points(curve(page, "Adversarial", "b")) == 9  # from 320 of 400 images
    svg = page.locator(".chart:has(h3:text-is('Adversarial')) svg")
    svg.press("-")
    assert points(curve(page, "Adversarial", "b")) == 17
    for _ in range(3):
        svg.press("-")
    assert page.locator(".view select").last.input_value() == "1"
    svg.press("+")
    assert points(curve(page, "Adversarial", "b")) == 21


# ---- several runs


def test_runs_are_compared_at_the_same_moment(serve, show, tmp_path, made, until):
    one = made(tmp_path / "one", 10, 2)
    made(tmp_path / "two", 20, 4)
    served = serve(tmp_path)
    page = show(served.address)
    for box in page.locator(".runs input").all():
        box.check()
    page.locator("button:text-is('Compare selected')").click()
    captions = page.locator(".panel:visible .beside .moment")
    assert sorted(captions.all_inner_texts()) == ["200 images", "400 images"]
    slider = page.locator(".panel:visible .controls input")
    slider.press("Home")
    assert captions.all_inner_texts() == ["100 images"] * 2
    one.sample_at(300)
    page.evaluate(REFRESH)
    assert captions.all_inner_texts() == ["100 images"] * 2
    slider.press("End")
    assert sorted(captions.all_inner_texts()) == ["300 images", "400 images"]
    images = page.locator(".panel:visible [data-images]:visible")
    until(lambda: all(image.evaluate("i => i.naturalWidth") == 24 for image in images.all()))
    assert page.locator(".panel:visible .source img").evaluate("i => i.naturalWidth") == 24
    beside = page.locator(".panel:visible .beside")
    assert beside.evaluate("box => [box.scrollLeft, box.scrollWidth > box.clientWidth]") == [0, False]
    page.locator(".panel:visible").get_by_label("Translations only").uncheck()
    assert page.locator(".panel:visible .source").is_hidden()
    assert page.evaluate(FITS)


def test_no_common_sources_are_shown_of_runs_on_different_images(serve, show, tmp_path, made):
    made(tmp_path / "one")
    two = made(tmp_path / "two")
    two.config.write_text(two.config.read_text().replace("/data/horses", "/data/cows"))
    page = show(serve(tmp_path).address)
    for box in page.locator(".runs input").all():
        box.check()
    page.locator("button:text-is('Compare selected')").click()
    assert page.locator(".source").count() == 0
    assert not page.locator(".panel:visible").get_by_label("Translations only").is_checked()
    assert "/data/cows" in page.locator(".differences").inner_text()


def test_all_links_work_below_a_proxys_address(serve, show, tmp_path, made):
    made(tmp_path / "one")
    made(tmp_path / "two")
    served = serve(tmp_path)
    below, prefix = served.app, "/user/me/proxy/8707"

    async def proxy(scope, receive, send):
        """What Jupyter's proxy does: it cuts its own address off and says nothing of it."""
        assert scope["path"].startswith(f"{prefix}/"), scope["path"]
        await below(scope | {"path": scope["path"].removeprefix(prefix)}, receive, send)

    served.app = proxy
    page = show(f"{served.address}{prefix}/")
    page.locator(".runs a").first.click()
    page.locator(".stage:visible").wait_for()
    assert page.locator(".frames img:visible").first.evaluate("i => i.naturalWidth") == 24
    with page.expect_download() as download:
        page.locator("a:text-is('Download as CSV')").click()
    assert download.value.suggested_filename.endswith(".csv")
    page.locator(".trail a").click()
    for box in page.locator(".runs input").all():
        box.check()
    page.locator("button:text-is('Compare selected')").click()
    page.locator(".plot svg").first.wait_for()
    page.locator(".side-by-side a").first.click()
    page.locator("h1:text-matches('one|two')").wait_for()
    page.evaluate("location.href = './none/of/ours'")
    page.locator("a:text-is('All runs')").click()
    page.locator("h1:text-is('2 runs')").wait_for()
    page.complaints.clear()  # the browser itself reports every 404
