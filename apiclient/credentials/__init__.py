"""Credentials: what a client proves itself with, and how its tokens are had and replaced.

Any object with ``async token() -> Token`` and ``invalidate(token)`` is a credential
(``apiclient.middleware.credential``); these are the usual ones.
"""

from apiclient.credentials._jwt import JwtBearer, PrivateKeyJwt, SigningKey
from apiclient.credentials._options import OAuthOptions
from apiclient.credentials._simple import ApiKey, Basic, StaticToken
from apiclient.credentials.client_credentials import ClientCredentials
from apiclient.credentials.refresh_token import RefreshToken
from apiclient.middleware.credential import Credential, ScopedCredential, Token

__all__ = [
    "ApiKey",
    "Basic",
    "ClientCredentials",
    "Credential",
    "JwtBearer",
    "OAuthOptions",
    "PrivateKeyJwt",
    "RefreshToken",
    "ScopedCredential",
    "SigningKey",
    "StaticToken",
    "Token",
]
