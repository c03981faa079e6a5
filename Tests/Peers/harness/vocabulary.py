"""Every name that Weir puts into its metrics and its access log, in one place."""

# Access log: one JSON object per closed session.
SERVER_NAME = "server_name"
CLIENT = "client"
PEER = "peer"
REASON = "reason"
STATUS = "status"
GUARD_RULE = "guard_rule"
BYTES_FROM_CLIENT = "bytes_from_client"
BYTES_FROM_UPSTREAM = "bytes_from_upstream"

# Metrics.
ACCEPTED = "weir_listener_accepted_total"
SESSIONS_OPENED = "weir_sessions_opened_total"
SESSIONS_CLOSED = "weir_sessions_closed_total"
SESSIONS_ACTIVE = "weir_sessions_active"
GUARD_DENIED = "weir_guard_denied_total"
GENERATION = "weir_snapshot_generation"

# Gauges that must be zero when no session is open.
OUTSTANDING = (SESSIONS_ACTIVE, "weir_buffers_outstanding", "weir_blocks_outstanding")
