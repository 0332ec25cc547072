"""The same call as a job of procrastinate, whose workers do the waiting and the repeating."""

import os
from typing import Any

import procrastinate
from procrastinate import RetryDecision

from apiclient import ApiClient, errors
from apiclient.credentials import ClientCredentials

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["POSTGRES_URL"]))


class WhileRecoverable(procrastinate.BaseRetryStrategy):
    """Repeats a job as long as the error is one that time may heal, and not before the API allows it."""

    def get_retry_decision(self, *, exception: BaseException, job: Any) -> RetryDecision | None:
        if not isinstance(exception, errors.ApiError) or not exception.recoverable or job.attempts >= 20:
            return None
        wait = max(exception.retry_after or 0.0, min(2.0**job.attempts, 600.0))
        return RetryDecision(retry_in={"seconds": int(wait) + 1})


def make_client() -> ApiClient:
    credentials = ClientCredentials(
        token_url=os.environ["APICLIENT_TOKEN_URL"],
        client_id=os.environ["APICLIENT_CLIENT_ID"],
        client_secret=os.environ["APICLIENT_CLIENT_SECRET"],
    )
    return ApiClient(os.environ["APICLIENT_BASE_URL"], credentials=credentials)


@app.task(queue="hours", retry=WhileRecoverable(), pass_context=True)
async def book(context: procrastinate.JobContext, *, employee: int, day: str, hours: float) -> None:
    """Book hours at the API, under the same key however often the job is run."""
    client: ApiClient = context.additional_context["client"]
    await client.post(
        "/timesheets",
        json={"employee": employee, "day": day, "hours": hours},
        idempotency_key=f"job-{context.job.id}",
    )
