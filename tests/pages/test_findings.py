from twofold.pages.findings import findings_list


def test_commands_are_code_and_everything_else_is_text():
    one = ("copies", "warning", "It copies <b>.", "`twofold data check A B` says why; then `--seed 2`.")
    made = findings_list([one], "calm")
    assert "<code>twofold data check A B</code> says why; then <code>--seed 2</code>." in made
    assert "It copies &lt;b&gt;." in made and "calm" not in made


def test_the_calm_line_stands_alone():
    assert findings_list([], "All well, `twofold info` says.") == (
        "<p class=soft>All well, <code>twofold info</code> says.</p>"
    )
    assert (
        findings_list([], "`<i>` and a lone ` tick")
        == "<p class=soft><code>&lt;i&gt;</code> and a lone ` tick</p>"
    )
