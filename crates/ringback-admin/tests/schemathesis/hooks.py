"""What schemathesis does not know by itself."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    """A batch of calls is text: one JSON object per line."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
