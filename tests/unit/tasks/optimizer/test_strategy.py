"""What is tried when, over described plug-ins and made-up outcomes."""

from collections.abc import Callable

from tasks.optimizer.repair import EXCLUDED_LAYERS
from tasks.optimizer.strategy import PATIENCE, Mend, Outcome, Strategy, Trial
from tests.unit.tasks.optimizer.chains import chain, every_chain

FLOAT, INT8 = "export_onnx @ ort", "export_onnx > quantize @ ort"
LAYERS = f"quantize.{EXCLUDED_LAYERS}"
SPEEDS = {"source @ eager": 9.0, "compile @ aot": 8.0, FLOAT: 1.0, INT8: 0.5}


def costs(trial: Trial) -> Outcome:
    ms = SPEEDS.get(trial.chain.name, 5.0)
    return Outcome(costs=(ms, 8 * ms))


def played(
    outcome: Callable[[Trial], Outcome] = costs, *, mend: Mend = lambda trial: None
) -> tuple[Strategy, list[Trial]]:
    """Play a whole search and return what was tried."""
    strategy = Strategy(every_chain(), (), mend, seed=0)
    strategy.learn(Trial(chain("source @ eager")), outcome(Trial(chain("source @ eager"))))
    tried: list[Trial] = []
    while trial := strategy.next():
        assert len(tried) < 200
        tried.append(trial)
        strategy.learn(trial, outcome(trial))
    return strategy, tried


def names(tried: list[Trial]) -> list[str]:
    return [trial.chain.name for trial in tried if not trial.settings]


def test_plain_chains_come_first_then_extra_passes_on_the_best_then_knobs() -> None:
    _, tried = played()
    assert names(tried)[:3] == [FLOAT, INT8, "compile @ aot"]
    assert tried[3].chain.extras
    first_knob = next(position for position, trial in enumerate(tried) if trial.settings)
    assert {address for trial in tried[first_knob:] for address in trial.settings} == {
        "quantize.method",
        "quantize.per_channel",
    }
    assert all(trial.chain.name.endswith("@ ort") for trial in tried if trial.chain.extras)


def test_nothing_is_tried_twice() -> None:
    _, tried = played()
    assert len({trial.key for trial in tried}) == len(tried)


def test_what_is_too_slow_for_extra_passes_is_told_with_the_figure() -> None:
    strategy, tried = played()
    untried = {one.name: reason for one, reason in strategy.untried()}
    assert untried["prune @ eager"] == "without prune it was 18.0 times slower than the best"
    assert untried["cast > compile @ aot"] == "without cast it was 16.0 times slower than the best"
    assert not set(untried) & set(names(tried))


def test_a_chain_that_never_had_its_turn_is_told_without_a_reason() -> None:
    strategy = Strategy(every_chain(), (), lambda trial: None, seed=0)
    untried = {one.name: reason for one, reason in strategy.untried()}
    assert untried == dict.fromkeys(("source @ eager", FLOAT, INT8, "compile @ aot"), "")


def test_a_winner_of_a_similar_model_is_tried_before_all_others() -> None:
    winner = Trial(chain(INT8), {"quantize.method": "entropy"})
    strategy = Strategy(every_chain(), (winner,), lambda trial: None, seed=0)
    assert strategy.next() == winner


def test_combinations_are_sampled_until_they_bring_nothing() -> None:
    def best_together(trial: Trial) -> Outcome:
        if trial.chain.name == INT8 and trial.settings.get("quantize.per_channel") is False:
            ms = {"entropy": 0.2, "percentile": 0.4}.get(str(trial.settings.get("quantize.method")), 0.5)
            return Outcome(costs=(ms, ms))
        return costs(trial)

    strategy, tried = played(best_together)
    combined = [trial for trial in tried if trial.chain.name == INT8 and len(trial.settings) == 2]
    assert {"quantize.method": "entropy", "quantize.per_channel": False} in [trial.settings for trial in combined]
    assert len(tried) < 60
    assert strategy.ended in (f"the last {PATIENCE} candidates brought nothing better", "nothing was left to try")


def test_a_refused_chain_is_repaired_and_its_further_trials_keep_the_layers_in_float() -> None:
    def lossy(trial: Trial) -> Outcome:
        if "quantize" in trial.chain.name and LAYERS not in trial.settings:
            return Outcome(lossy=True)
        return costs(trial)

    def mend(trial: Trial) -> Trial | None:
        done = trial.settings.get(LAYERS, ())
        assert isinstance(done, tuple)
        layers = (*done, f"layer{len(done)}")
        return Trial(trial.chain, {LAYERS: layers}, trial.repairs or trial) if len(layers) < 3 else None

    _, tried = played(lossy, mend=mend)
    repairs = [trial for trial in tried if trial.repairs and trial.chain.name == INT8]
    assert [trial.settings for trial in repairs] == [{LAYERS: ("layer0",)}, {LAYERS: ("layer0", "layer1")}]
    assert all(trial.repairs is not None and trial.repairs.settings == {} for trial in repairs)
    after = [trial for trial in tried[tried.index(repairs[-1]) + 1 :] if trial.chain.name == INT8]
    assert after
    assert all(LAYERS in trial.settings for trial in after)


def test_a_chain_that_is_good_at_a_full_batch_alone_may_win_too() -> None:
    def throughput(trial: Trial) -> Outcome:
        return Outcome(costs=(3.0, 1.0)) if trial.chain.name == INT8 else costs(trial)

    _, tried = played(throughput)
    assert [trial for trial in tried if trial.chain.name == INT8 and trial.settings]


def test_an_extra_pass_that_does_not_pass_on_the_best_chain_is_not_tried_on_the_next() -> None:
    def fails(trial: Trial) -> Outcome:
        return Outcome() if "prune" in trial.chain.extras else costs(trial)

    strategy, tried = played(fails)
    assert [name for name in names(tried) if name.startswith("prune")] == ["prune > export_onnx > quantize @ ort"]
    reasons = {one.name: reason for one, reason in strategy.untried()}
    assert reasons[f"prune > {FLOAT}"] == "prune did not pass on a faster chain"


def test_of_a_refused_pruned_chain_only_the_knobs_of_the_pruning_are_turned() -> None:
    def lossy(trial: Trial) -> Outcome:
        return Outcome(lossy=True) if "prune" in trial.chain.extras else costs(trial)

    _, tried = played(lossy)
    assert {address for trial in tried if "prune" in trial.chain.extras for address in trial.settings} == {
        "prune.ratio"
    }
