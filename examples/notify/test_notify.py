import pipelines
import pytest

from b24offline.testing import in_turn, refused, run_pipeline


def ran(answer=1, **deal):
    return run_pipeline(
        "ONCRMDEALUPDATE 5",
        objects={"crm_deal 5": {"ASSIGNED_BY_ID": "3", **deal}},
        answers={"im.notify.personal.add": answer},
        pipeline=pipelines.won_deal_announced,
    )


@pytest.mark.parametrize(("stage", "told"), [("WON", [{"USER_ID": "3", "TAG": "won|5"}]), ("NEW", [])])
def test_only_a_won_deal_is_announced(stage, told):
    result = ran(STAGE_ID=stage)
    assert result.outcome == "succeeded"
    assert [{name: call.params[name] for name in ("USER_ID", "TAG")} for call in result.writes] == told


def test_a_portal_that_fails_once_is_asked_again_with_the_same_tag():
    result = ran(in_turn(refused(500, "INTERNAL_SERVER_ERROR"), 1), STAGE_ID="WON")
    assert result.outcome == "succeeded"
    assert [call.params["TAG"] for call in result.writes] == ["won|5", "won|5"]


def test_nobody_to_tell_fails_at_once():
    result = ran(STAGE_ID="WON", ASSIGNED_BY_ID="")
    assert (result.outcome, str(result.error)) == ("failed", "a won deal without a responsible person")
