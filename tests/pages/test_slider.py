import re

from twofold.pages.slider import Frame, gallery

FRAMES = [Frame("100 images", "data:one"), Frame("200 images", "data:two"), Frame("300 images", "data:three")]


def test_only_the_newest_grid_shows_at_first():
    images = re.findall(r"<img [^>]*>", gallery({"ab": FRAMES, "ba": FRAMES[:1]}))[:3]
    assert [" hidden" in image for image in images] == [True, True, False]
    assert 'alt="A, A→B and back to A after 300 images"' in images[-1]
    assert 'max=2 value=2 aria-label="Moment of training, A→B"' in gallery({"ab": FRAMES})


def test_a_switch_stands_where_there_are_two_directions():
    assert "class=switch" not in gallery({"ab": FRAMES, "ba": []})
    both = gallery({"ab": FRAMES, "ba": FRAMES})
    assert re.findall(r"<button type=button data-direction=(\w\w)", both) == ["ab", "ba"]
    assert both.count("<div class=panel") == 2
    assert "back to B" in both


def test_the_third_column_is_the_change_where_nothing_translates_back():
    assert "<span class=a>change</span>" in gallery({"ab": FRAMES})
    assert "<span class=a>true B</span>" in gallery({"ab": FRAMES}, paired=True)
    assert "A, A→B and change after 300 images" in gallery({"ab": FRAMES})


def test_one_grid_needs_no_controls():
    assert "<div class=controls hidden>" in gallery({"ab": FRAMES[:1]})
    assert "<div class=controls>" in gallery({"ab": FRAMES[:2]})


def test_nothing_makes_nothing():
    assert gallery({"ab": [], "ba": []}) == ""


def test_labels_and_addresses_are_escaped():
    made = gallery({"ab": [Frame('"><script>', '"><script>')]})
    assert "<script>" not in made
