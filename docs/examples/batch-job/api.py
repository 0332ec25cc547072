"""The client of this job, for `apiclient batch --client api:make_client`."""

import os

from apiclient import ApiClient, default_pipeline
from apiclient.credentials import ClientCredentials
from apiclient.middleware import AccessLog, RateLimit


def make_client() -> ApiClient:
    """Return a client that knows this API's limits, and whose log is the results."""
    credentials = ClientCredentials(
        token_url=os.environ["APICLIENT_TOKEN_URL"],
        client_id=os.environ["APICLIENT_CLIENT_ID"],
        client_secret=os.environ["APICLIENT_CLIENT_SECRET"],
    )
    limits = RateLimit(limits={"POST /timesheets": "50/1s"})
    pipeline = default_pipeline(credentials=credentials).without(AccessLog).replace(RateLimit, limits)
    return ApiClient(os.environ["APICLIENT_BASE_URL"], pipeline=pipeline)
