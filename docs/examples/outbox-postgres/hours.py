"""Books hours: the row in our own table and the call to the API, both or neither."""

import asyncio
import os
import sys

import psycopg
from postgres_outbox import PostgresOutboxStore

from apiclient import ApiClient
from apiclient.credentials import ClientCredentials
from apiclient.outbox import Outbox

STORE = PostgresOutboxStore(os.environ["POSTGRES_URL"])
TABLE = "CREATE TABLE IF NOT EXISTS hours (employee int, day date, hours float8, PRIMARY KEY (employee, day))"


def make_client() -> ApiClient:
    """Return the client with its outbox; ``apiclient outbox ... --client hours:make_client`` takes it too."""
    credentials = ClientCredentials(
        token_url=os.environ["APICLIENT_TOKEN_URL"],
        client_id=os.environ["APICLIENT_CLIENT_ID"],
        client_secret=os.environ["APICLIENT_CLIENT_SECRET"],
    )
    return ApiClient(os.environ["APICLIENT_BASE_URL"], credentials=credentials, outbox=Outbox(STORE))


async def book(client: ApiClient, employee: int, day: str, hours: float) -> None:
    """Note hours, and let the API know of them in due time.

    Raises:
        psycopg.errors.UniqueViolation: That day has been booked; then nothing is sent either.
    """
    async with await psycopg.AsyncConnection.connect(os.environ["POSTGRES_URL"]) as connection:
        with STORE.within(connection):
            await client.defer(
                "POST",
                "/timesheets",
                json={"employee": employee, "day": day, "hours": hours},
                idempotency_key=f"hours-{employee}-{day}",
            )
        await connection.execute("INSERT INTO hours VALUES (%s, %s, %s)", (employee, day, hours))
    # Committed here; an error above undoes both.


async def main(employee: str, day: str, hours: str) -> None:
    async with await psycopg.AsyncConnection.connect(os.environ["POSTGRES_URL"]) as connection:
        await connection.execute(TABLE)
    async with make_client() as client:
        await STORE.stats()  # Makes its table as well.
        try:
            await book(client, int(employee), day, float(hours))
        except psycopg.errors.UniqueViolation:
            sys.exit(f"{day} is booked for {employee} already")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
