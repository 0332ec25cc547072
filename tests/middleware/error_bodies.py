"""Bodies of errors, written here after the shapes that well-known APIs and servers use, and what each of them says."""

from typing import Any, NamedTuple


class Sample(NamedTuple):
    """One body with its content type, and the members of the problem that it must give."""

    name: str
    content_type: str
    body: bytes | str
    says: dict[str, Any]


JSON = "application/json"
PROBLEM = "application/problem+json; charset=utf-8"
HTML = "text/html; charset=UTF-8"
XML = "application/xml"
TEXT = "text/plain"

SAMPLES = [
    # The API that the product was conceived for.
    Sample(
        "seed 401",
        JSON,
        '{"error": "invalid_client"}',
        {"code": "invalid_client", "message": None, "summary": "invalid_client"},
    ),
    Sample(
        "seed 403",
        JSON,
        '{"error": "forbidden", "message": "User group permission missing"}',
        {"code": "forbidden", "message": "User group permission missing"},
    ),
    Sample(
        "seed 415",
        PROBLEM,
        '{"type":"https://tools.ietf.org/html/rfc9110#section-15.5.16","title":"Unsupported Media Type","status":415,"traceId":"00-7d0e5a-01"}',
        {
            "type": "https://tools.ietf.org/html/rfc9110#section-15.5.16",
            "title": "Unsupported Media Type",
            "status": 415,
            "trace_id": "00-7d0e5a-01",
            "code": None,
            "summary": "Unsupported Media Type",
        },
    ),
    Sample(
        "seed 429",
        TEXT,
        "API calls quota exceeded! maximum admitted 5 per 1 second.",
        {"message": "API calls quota exceeded! maximum admitted 5 per 1 second."},
    ),
    Sample(
        "seed 500",
        JSON,
        '{"error": "internal_server_error"}',
        {"code": "internal_server_error", "summary": "internal_server_error"},
    ),
    # RFC 9457.
    Sample(
        "credit",
        PROBLEM,
        '{"type":"https://example.com/probs/out-of-credit","title":"You do not have enough credit.","detail":"Your balance is 30, but that costs 50.","instance":"/account/1/msgs/a","balance":30,"accounts":["/account/1"]}',
        {
            "type": "https://example.com/probs/out-of-credit",
            "title": "You do not have enough credit.",
            "detail": "Your balance is 30, but that costs 50.",
            "instance": "/account/1/msgs/a",
            "extensions": {"balance": 30, "accounts": ["/account/1"]},
            "summary": "You do not have enough credit.: Your balance is 30, but that costs 50.",
        },
    ),
    Sample(
        "pointers",
        PROBLEM,
        '{"title":"Your request is not valid.","errors":[{"detail":"must be a positive integer","pointer":"#/age"},{"detail":"must be green","pointer":"#/colour"}]}',
        {
            "title": "Your request is not valid.",
            "errors": ("#/age: must be a positive integer", "#/colour: must be green"),
        },
    ),
    Sample(
        "invalid-params",
        PROBLEM,
        '{"title":"Invalid","invalid-params":[{"name":"age","reason":"must be positive"}]}',
        {"errors": ("age: must be positive",), "status": None},
    ),
    Sample(
        "about:blank",
        PROBLEM,
        '{"type":"about:blank","title":"Not Found","status":404}',
        {"type": "about:blank", "title": "Not Found", "status": 404, "code": None},
    ),
    Sample(
        "quota",
        PROBLEM,
        '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded","violated-policies":["daily"]}',
        {"title": "Quota exceeded", "extensions": {"violated-policies": ["daily"]}},
    ),
    Sample(
        "said twice", PROBLEM, '{"detail":"Too late","message":"Too late"}', {"detail": "Too late", "message": None}
    ),
    Sample("status as text", PROBLEM, '{"title":"Gone","status":"410"}', {"status": 410}),
    Sample(
        "wrong types",
        PROBLEM,
        '{"type":7,"title":["x"],"status":"soon","detail":{"a":1},"instance":null}',
        {"type": None, "title": None, "status": None, "detail": None, "instance": None},
    ),
    # Frameworks.
    Sample(
        "ASP.NET validation",
        PROBLEM,
        '{"type":"https://tools.ietf.org/html/rfc9110#section-15.5.1","title":"One or more validation errors occurred.","status":400,"errors":{"Name":["The Name field is required."],"$.age":["Not a number.","Too small."]},"traceId":"00-aa-bb-00"}',
        {
            "status": 400,
            "errors": ("Name: The Name field is required.", "$.age: Not a number.", "$.age: Too small."),
            "trace_id": "00-aa-bb-00",
        },
    ),
    Sample(
        "ASP.NET Web API",
        JSON,
        '{"Message":"An error has occurred.","ExceptionMessage":"boom","ExceptionType":"System.Exception","StackTrace":"  at X()\\r\\n"}',
        {"message": "An error has occurred."},
    ),
    Sample(
        "Spring",
        JSON,
        '{"timestamp":"2026-11-22T10:00:00Z","status":404,"error":"Not Found","path":"/x"}',
        {"status": 404, "message": "Not Found", "code": None},
    ),
    Sample(
        "Spring, one word",
        JSON,
        '{"status":401,"error":"Unauthorized","message":"Full authentication is required","path":"/x"}',
        {"status": 401, "code": "Unauthorized", "message": "Full authentication is required"},
    ),
    Sample(
        "Spring fields",
        JSON,
        '{"status":400,"errors":[{"field":"email","defaultMessage":"must be well-formed","rejectedValue":"x"}]}',
        {"errors": ("email: must be well-formed",)},
    ),
    Sample(
        "Zalando violations",
        PROBLEM,
        '{"title":"Constraint Violation","status":400,"violations":[{"field":"name","message":"must not be blank"}]}',
        {"errors": ("name: must not be blank",)},
    ),
    Sample(
        "FastAPI",
        JSON,
        '{"detail":[{"loc":["body","items",0,"price"],"msg":"field required","type":"value_error.missing"}]}',
        {
            "errors": ("body.items.0.price: field required",),
            "summary": "body.items.0.price: field required (value_error.missing)",
        },
    ),
    Sample(
        "FastAPI, plain",
        JSON,
        '{"detail":"Not authenticated"}',
        {"detail": "Not authenticated", "summary": "Not authenticated"},
    ),
    Sample(
        "Django REST fields",
        JSON,
        '{"username":["This field is required."],"age":["A valid integer is required."]}',
        {"errors": ("username: This field is required.", "age: A valid integer is required.")},
    ),
    Sample(
        "Django REST token",
        JSON,
        '{"detail":"Given token not valid for any token type","code":"token_not_valid","messages":[{"token_class":"AccessToken","message":"Token is invalid or expired"}]}',
        {"code": "token_not_valid", "errors": ("Token is invalid or expired",)},
    ),
    Sample(
        "Rails",
        JSON,
        '{"errors":{"email":["has already been taken"],"name":["can\'t be blank"]}}',
        {
            "errors": ("email: has already been taken", "name: can't be blank"),
            "message": "email: has already been taken",
        },
    ),
    Sample(
        "Rails, plain",
        JSON,
        '{"errors":["Name can\'t be blank"]}',
        {"errors": ("Name can't be blank",), "summary": "Name can't be blank"},
    ),
    Sample(
        "NestJS",
        JSON,
        '{"statusCode":400,"message":["name must be a string","age must be an integer"],"error":"Bad Request"}',
        {"status": 400, "message": "Bad Request", "errors": ("name must be a string", "age must be an integer")},
    ),
    Sample(
        "Fastify",
        JSON,
        '{"statusCode":404,"error":"Not Found","message":"Route GET:/x not found"}',
        {"status": 404, "message": "Route GET:/x not found"},
    ),
    Sample(
        "hapi/boom",
        JSON,
        '{"statusCode":401,"error":"Unauthorized","message":"Bad token","attributes":{"error":"Bad token"}}',
        {"status": 401, "code": "Unauthorized"},
    ),
    Sample(
        "Phoenix",
        JSON,
        '{"errors":{"detail":"Unprocessable Content"}}',
        {"detail": "Unprocessable Content", "errors": ("detail: Unprocessable Content",)},
    ),
    Sample(
        "Laravel",
        JSON,
        '{"message":"The given data was invalid.","errors":{"email":["The email field is required."]}}',
        {"message": "The given data was invalid.", "errors": ("email: The email field is required.",)},
    ),
    Sample(
        "API Platform",
        "application/ld+json",
        '{"@context":"/contexts/Error","@type":"hydra:Error","title":"An error occurred","detail":"Not Found","violations":[{"propertyPath":"isbn","message":"bad"}]}',
        {"title": "An error occurred", "detail": "Not Found", "errors": ("isbn: bad",)},
    ),
    # OAuth 2.0.
    Sample(
        "OAuth",
        JSON,
        '{"error":"invalid_grant","error_description":"The refresh token was revoked","error_uri":"https://x/e"}',
        {
            "code": "invalid_grant",
            "message": "The refresh token was revoked",
            "summary": "The refresh token was revoked (invalid_grant)",
        },
    ),
    Sample(
        "OAuth form",
        "application/x-www-form-urlencoded",
        "error=bad_verification_code&error_description=The+code+is+incorrect.&error_uri=https%3A%2F%2Fx",
        {"code": "bad_verification_code", "message": "The code is incorrect."},
    ),
    Sample(
        "Entra",
        JSON,
        '{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret.\\r\\nTrace ID: 0a1b","error_codes":[7000215],"trace_id":"0a1b-tr","correlation_id":"0c2d-co"}',
        {
            "code": "invalid_client",
            "trace_id": "0a1b-tr",
            "message": "AADSTS7000215: Invalid client secret.\\r\\nTrace ID: 0a1b",
        },
    ),
    Sample(
        "Okta",
        JSON,
        '{"errorCode":"E0000011","errorSummary":"Invalid token provided","errorLink":"E0000011","errorId":"oaeX1","errorCauses":[]}',
        {"code": "E0000011", "trace_id": "oaeX1"},
    ),
    Sample(
        "Auth0",
        JSON,
        '{"statusCode":403,"error":"Forbidden","message":"Insufficient scope, expected any of: read:users","errorCode":"insufficient_scope"}',
        {"code": "insufficient_scope", "status": 403},
    ),
    # error objects.
    Sample(
        "Google",
        JSON,
        '{"error":{"code":403,"message":"Request had insufficient scopes.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}}',
        {
            "code": "PERMISSION_DENIED",
            "status": 403,
            "message": "Request had insufficient scopes.",
            "errors": ("ACCESS_TOKEN_SCOPE_INSUFFICIENT",),
        },
    ),
    Sample(
        "Google, older",
        JSON,
        '{"error":{"errors":[{"domain":"usageLimits","reason":"dailyLimitExceeded","message":"Daily Limit Exceeded"}],"code":403,"message":"Daily Limit Exceeded"}}',
        {"code": "dailyLimitExceeded", "status": 403, "message": "Daily Limit Exceeded"},
    ),
    Sample(
        "Google Maps",
        JSON,
        '{"error_message":"You must use an API key.","results":[],"status":"REQUEST_DENIED"}',
        {"code": "REQUEST_DENIED", "message": "You must use an API key."},
    ),
    Sample(
        "Azure",
        JSON,
        '{"error":{"code":"AuthorizationFailed","message":"The client has no authorization.","target":"x","details":[{"code":"C1","target":"name","message":"bad name"}],"innererror":{"clientRequestId":"cr-1"}}}',
        {"code": "AuthorizationFailed", "errors": ("name: bad name",), "trace_id": "cr-1"},
    ),
    Sample(
        "Graph",
        JSON,
        '{"error":{"code":"InvalidAuthenticationToken","message":"Lifetime validation failed.","innerError":{"date":"2026","request-id":"rq-1","client-request-id":"cr-1"}}}',
        {"code": "InvalidAuthenticationToken", "trace_id": "rq-1"},
    ),
    Sample(
        "OpenAI",
        JSON,
        '{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}',
        {"code": "invalid_api_key", "message": "Incorrect API key provided."},
    ),
    Sample(
        "type only",
        JSON,
        '{"error":{"message":"Overloaded","type":"overloaded_error","code":null}}',
        {"code": "overloaded_error"},
    ),
    Sample(
        "Anthropic",
        JSON,
        '{"type":"error","error":{"type":"rate_limit_error","message":"Too many"},"request_id":"req_1"}',
        {"type": None, "code": "rate_limit_error", "message": "Too many", "trace_id": "req_1"},
    ),
    Sample(
        "Stripe",
        JSON,
        '{"error":{"code":"resource_missing","doc_url":"https://x","message":"No such customer","param":"customer","type":"invalid_request_error","request_log_url":"https://y"}}',
        {"code": "resource_missing", "message": "No such customer"},
    ),
    Sample(
        "Facebook",
        JSON,
        '{"error":{"message":"Error validating access token","type":"OAuthException","code":190,"error_subcode":460,"fbtrace_id":"AbC"}}',
        {"code": "OAuthException", "message": "Error validating access token", "trace_id": "AbC"},
    ),
    Sample(
        "Elasticsearch",
        JSON,
        '{"error":{"root_cause":[{"type":"index_not_found_exception","reason":"no such index [x]"}],"type":"index_not_found_exception","reason":"no such index [x]"},"status":404}',
        {"code": "index_not_found_exception", "message": "no such index [x]", "status": 404},
    ),
    Sample(
        "Apigee",
        JSON,
        '{"fault":{"faultstring":"Invalid access token","detail":{"errorcode":"oauth.v2.InvalidAccessToken"}}}',
        {"message": "Invalid access token", "code": "oauth.v2.InvalidAccessToken"},
    ),
    Sample(
        "text in error",
        JSON,
        '{"error":"Rate limit exceeded, try later"}',
        {"message": "Rate limit exceeded, try later", "code": None},
    ),
    # code and message beside each other.
    Sample(
        "Twilio",
        JSON,
        '{"code":20003,"message":"Authenticate","more_info":"https://x/20003","status":401}',
        {"code": "20003", "status": 401, "message": "Authenticate", "summary": "Authenticate (20003)"},
    ),
    Sample(
        "GitHub",
        JSON,
        '{"message":"Validation Failed","errors":[{"resource":"Issue","field":"title","code":"missing_field"}],"documentation_url":"https://x","status":"422"}',
        {"message": "Validation Failed", "status": 422, "code": "missing_field", "errors": ("title: missing_field",)},
    ),
    Sample("GitLab", JSON, '{"message":"401 Unauthorized"}', {"message": "401 Unauthorized"}),
    Sample(
        "Slack",
        JSON,
        '{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"identify"}',
        {
            "code": "missing_scope",
            "extensions": {"ok": False, "error": "missing_scope", "needed": "chat:write", "provided": "identify"},
        },
    ),
    Sample(
        "Telegram",
        JSON,
        '{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5}}',
        {"code": "429", "message": "Too Many Requests: retry after 5"},
    ),
    Sample(
        "Discord",
        JSON,
        '{"message":"You are being rate limited.","retry_after":0.65,"global":false,"code":0}',
        {"message": "You are being rate limited.", "code": "0"},
    ),
    Sample(
        "HubSpot",
        JSON,
        '{"status":"error","message":"This oauth-token is expired!","correlationId":"d4-e5","category":"EXPIRED_AUTHENTICATION"}',
        {"status": None, "code": None, "trace_id": "d4-e5", "message": "This oauth-token is expired!"},
    ),
    Sample(
        "JSend",
        JSON,
        '{"status":"fail","code":422,"message":"Bad data","data":{"title":"A title is required"}}',
        {"title": None, "code": "422", "status": 422, "message": "Bad data"},
    ),
    Sample(
        "Kong",
        JSON,
        '{"message":"API rate limit exceeded","request_id":"a1b2c3"}',
        {"message": "API rate limit exceeded", "trace_id": "a1b2c3"},
    ),
    Sample(
        "AWS JSON",
        "application/x-amz-json-1.1",
        '{"__type":"com.amazon.coral.service#ThrottlingException","message":"Rate exceeded"}',
        {"code": "ThrottlingException", "message": "Rate exceeded", "type": None},
    ),
    Sample(
        "AWS gateway", JSON, '{"message":"Missing Authentication Token"}', {"message": "Missing Authentication Token"}
    ),
    Sample(
        "Shopify",
        JSON,
        '{"errors":"[API] Invalid API key or access token"}',
        {"errors": ("[API] Invalid API key or access token",)},
    ),
    Sample(
        "SAP OData",
        JSON,
        '{"error":{"code":"SY/530","message":{"lang":"en","value":"No authorization"},"innererror":{"transactionid":"T1"}}}',
        {"code": "SY/530", "trace_id": "T1"},
    ),
    Sample(
        "wrapped",
        JSON,
        '{"response":{"status":{"code":"40101","text":"denied"},"error":{"code":"E1","message":"Denied"}}}',
        {"code": "E1", "message": "Denied"},
    ),
    # Lists.
    Sample(
        "Salesforce",
        JSON,
        '[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]',
        {
            "message": "Session expired or invalid",
            "code": "INVALID_SESSION_ID",
            "errors": ("Session expired or invalid",),
            "extensions": {},
        },
    ),
    Sample(
        "JSON:API",
        "application/vnd.api+json",
        '{"errors":[{"id":"e1","status":"422","code":"E9","title":"Invalid Attribute","detail":"Name is too short.","source":{"pointer":"/data/attributes/name"}}]}',
        {
            "status": 422,
            "code": "E9",
            "title": "Invalid Attribute",
            "detail": "Name is too short.",
            "errors": ("/data/attributes/name: Name is too short.",),
        },
    ),
    Sample(
        "GraphQL",
        JSON,
        '{"data":null,"errors":[{"message":"Not authorised","path":["me","email"],"extensions":{"code":"UNAUTHENTICATED"}}]}',
        {"code": "UNAUTHENTICATED", "message": "Not authorised", "errors": ("me.email: Not authorised",)},
    ),
    Sample("list of texts", JSON, '["first", "second"]', {"errors": ("first", "second"), "message": "first"}),
    # A trace id in odd places.
    Sample(
        "deep trace",
        JSON,
        '{"message":"x","meta":{"debug":{"ids":[{"TraceId":"deep-1"}]},"requestId":"near-1"}}',
        {"trace_id": "deep-1"},
    ),
    Sample("numeric request id", JSON, '{"message":"x","request_id":12345}', {"trace_id": "12345"}),
    # XML and HTML.
    Sample(
        "S3",
        XML,
        '<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>',
        {"code": "NoSuchKey", "message": "The key does not exist.", "trace_id": "4442587FB7D0A2F9"},
    ),
    Sample(
        "SOAP",
        "text/xml",
        "<soap:Envelope><soap:Body><soap:Fault><faultcode>soap:Client</faultcode><faultstring>Bad token</faultstring></soap:Fault></soap:Body></soap:Envelope>",
        {"code": "soap:Client", "message": "Bad token"},
    ),
    Sample(
        "nginx",
        HTML,
        "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>",
        {"title": "403 Forbidden", "message": None, "summary": "403 Forbidden"},
    ),
    Sample(
        "Apache",
        "text/html; charset=iso-8859-1",
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>404 Not Found</title>\n</head><body><h1>Not Found</h1></body></html>',
        {"title": "404 Not Found", "message": "Not Found", "summary": "404 Not Found: Not Found"},
    ),
    Sample(
        "proxy page",
        HTML,
        '<html><head><meta charset="UTF-8"><TITLE lang="en">\n  Access &amp; denied&nbsp;| proxy\n</TITLE></head></html>',
        {"title": "Access & denied | proxy"},
    ),
    Sample(
        "CDN page",
        HTML,
        "<title>Attention Required!</title><p>Ray ID: <strong>8f2a9c1d2e3b4a5f</strong></p>",
        {"title": "Attention Required!", "trace_id": "8f2a9c1d2e3b4a5f"},
    ),
    Sample(
        "no title", HTML, "<p>Something <b>went</b> wrong &lt;here&gt;</p>", {"message": "Something went wrong <here>"}
    ),
    Sample("HTML as JSON", JSON, "<html><head><title>Login</title></head></html>", {"title": "Login"}),
    # Text.
    Sample(
        "text",
        TEXT,
        "upstream connect error or disconnect/reset before headers",
        {"message": "upstream connect error or disconnect/reset before headers"},
    ),
    Sample(
        "two lines",
        TEXT,
        "no healthy\n  upstream\n",
        {"message": "no healthy upstream", "text": "no healthy\\n  upstream"},
    ),
    Sample("JSON as text", TEXT, '{"message":"Forbidden"}', {"message": "Forbidden"}),
    Sample("JSON string", JSON, '"Quota exceeded"', {"message": "Quota exceeded"}),
    Sample("JSON in a string", JSON, '"{\\"error\\": \\"invalid_client\\"}"', {"code": "invalid_client"}),
    Sample("JSON and more", JSON, '{"error":"timeout"}\n{"error":"second"}', {"code": "timeout"}),
    Sample("guarded JSON", JSON, ')]}\',\n{"message":"Forbidden"}', {"message": "Forbidden"}),
    Sample("request id in text", TEXT, "Internal error. Request ID: 7f3e-99aa", {"trace_id": "7f3e-99aa"}),
    Sample("quoted beginning", TEXT, '"foo" is not a valid id', {"message": '"foo" is not a valid id'}),
    Sample("bracketed beginning", TEXT, "[1] is not valid", {"message": "[1] is not valid"}),
    Sample("cut off", JSON, '{"error": {"message": "too lo', {"message": '{"error": {"message": "too lo'}),
    # Charsets.
    Sample("byte order mark", JSON, b'\xef\xbb\xbf{"message":"caf\xc3\xa9"}', {"message": "caf\u00e9"}),
    Sample("UTF-16", JSON, '{"message":"caf\u00e9"}'.encode("utf-16"), {"message": "caf\u00e9"}),
    Sample("UTF-16 without mark", JSON, '{"message":"caf\u00e9"}'.encode("utf-16-le"), {"message": "caf\u00e9"}),
    Sample(
        "Latin-1 declared", "application/json; charset=ISO-8859-1", b'{"message":"caf\xe9"}', {"message": "caf\u00e9"}
    ),
    Sample("Latin-1 undeclared", JSON, b'{"message":"caf\xe9"}', {"message": "caf\u00e9"}),
    Sample(
        "UTF-8 declared as Latin-1",
        "application/json; charset=iso-8859-1",
        b'{"message":"caf\xc3\xa9"}',
        {"message": "caf\u00e9"},
    ),
    Sample(
        "Shift JIS",
        'text/plain; charset="Shift_JIS"',
        "\u30a8\u30e9\u30fc".encode("shift_jis"),
        {"message": "\u30a8\u30e9\u30fc"},
    ),
    Sample("unknown charset", "text/plain; charset=klingon", b"caf\xe9", {"message": "caf\u00e9"}),
    # Nothing, or no text.
    Sample("empty", JSON, b"", {"text": "", "message": None, "summary": ""}),
    Sample("blank", TEXT, b" \r\n\t ", {"text": "", "message": None, "summary": ""}),
    Sample("empty object", JSON, "{}", {"message": None, "text": "{}", "summary": "{}"}),
    Sample("null", JSON, "null", {"message": "null"}),
    Sample("binary", "application/octet-stream", bytes(range(14, 32)) * 20, {"message": None}),
    # Hostile.
    Sample(
        "escape codes",
        JSON,
        '{"message":"a\\u001b[31mred\\r\\nGET / HTTP/1.1\\u0000"}',
        {"message": "a\\x1b[31mred\\r\\nGET / HTTP/1.1\\x00"},
    ),
    Sample(
        "raw escape codes", TEXT, b"\x1b]0;pwned\x07 done and dusted", {"message": "\\x1b]0;pwned\\x07 done and dusted"}
    ),
    Sample("bidirectional", JSON, '{"message":"a\\u202eb\\u2028c\\ud800"}', {"message": "a\\u202eb\\u2028c\\ud800"}),
    Sample("format characters", JSON, '{"message":"%s %d {0} {x.__class__}"}', {"message": "%s %d {0} {x.__class__}"}),
    Sample(
        "not a number",
        JSON,
        '{"message":"x","a":NaN,"b":Infinity,"c":-Infinity,"d":1e999}',
        {"message": "x", "extensions": {"message": "x", "a": None, "b": None, "c": None, "d": None}},
    ),
    Sample("duplicates", JSON, '{"message":"first","message":"second"}', {"message": "second"}),
    Sample("long integer", JSON, '{"message":"x","code":' + "9" * 5000 + "}", {"message": "x", "code": None}),
]
