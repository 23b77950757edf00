import pytest

from headstart.errors import InputError
from headstart.tracking.policy import Policy, load_policy


@pytest.fixture
def written(tmp_path):
    """Writes a policy file."""

    def write(text: str):
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        return path

    return write


def test_without_a_file_the_champion_is_protected():
    policy = Policy()
    assert (policy.against_champion, policy.min_gain, policy.max_leaked) == ("better", 0, 0)
    assert (policy.max_class_regression, policy.lineage) == (0.1, True)
    assert policy.unknown_training_data == "pass"


def test_a_file_sets_what_it_names_and_leaves_the_rest(written):
    policy = load_policy(
        written(
            "against_champion: not_worse\nmargin: 0.02\nmin_metrics: {accuracy: 0.8, macro_f1: 1}\n"
            "min_gain: null\nmax_latency_ms: 20\n"
        )
    )
    assert (policy.against_champion, policy.margin, policy.min_gain, policy.max_latency_ms) == (
        "not_worse", 0.02, None, 20,
    )  # fmt: skip
    assert (policy.min_metrics.accuracy, policy.min_metrics.macro_f1, policy.min_metrics.macro_recall) == (0.8, 1, None)
    assert (policy.max_leaked, policy.confidence) == (0, 0.95)


def test_no_comparison_is_null_or_none(written):
    for word in ("null", "none", "~"):
        assert load_policy(written(f"against_champion: {word}\n")).against_champion == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_acuracy: 0.8", "min_acuracy: unknown key; known here: against_champion, .*"),
        ("max_leak: 1", "max_leak: unknown key; did you mean max_leaked"),
        ("min_metrics: {acuracy: 0.8}", "min_metrics.acuracy: unknown key; did you mean accuracy"),
        ("min_metrics: 0.8", "min_metrics: 0.8 must be a mapping"),
        ("min_metrics: {accuracy: 80}", "min_metrics.accuracy: 80 must be less than or equal to 1"),
        ("against_champion: best", "against_champion: 'best' is not one of 'better', 'not_worse' or 'none'"),
        ("max_leaked: 1.5", "max_leaked: 1.5 must be"),
        ("unknown_training_data: maybe", "unknown_training_data: 'maybe' is not one of 'pass' or 'refuse'"),
        ("max_ece: '0.1'", "max_ece: '0.1' must be a valid number"),
        ("max_size_mb: 0", "max_size_mb: 0 must be greater than 0"),
        ("lineage: 1", "lineage: 1 must be a valid boolean"),
        ("confidence: .nan", "confidence: nan must be"),
        ("- better", "a policy is a mapping"),
        ("", "a policy is a mapping"),
        ("a: [", "line 1, column"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place_and_what_was_expected(written, text, message):
    path = written(text)
    with pytest.raises(InputError, match=message) as refusal:
        load_policy(path)
    assert str(refusal.value).startswith(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no policy at .*absent\.yaml"):
        load_policy(tmp_path / "absent.yaml")
