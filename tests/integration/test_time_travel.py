from tests.box import Box


async def test_the_database_clock_can_be_moved(box: Box) -> None:
    await box.travel(minutes=20)
    ahead = await box.value("SELECT extract(epoch FROM kiti_now() - statement_timestamp())")
    assert ahead == 1200


async def test_each_test_begins_at_the_true_time(box: Box) -> None:
    assert await box.value("SELECT kiti_now() = statement_timestamp()")
