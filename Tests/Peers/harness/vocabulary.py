"""Every name that Weir puts into its metrics and its access log and that a test looks at, in one place."""

# Access log: one JSON object per closed session, on standard output.
SERVER_NAME = "server_name"
CLIENT = "client"
PEER = "peer"
LISTENER = "listener"
REASON = "reason"
STATUS = "status"
GUARD_RULE = "guard_rule"
BYTES_FROM_CLIENT = "bytes_from_client"
BYTES_FROM_UPSTREAM = "bytes_from_upstream"

# Metrics.
ACCEPTED = "weir_accepted_connections_total"
SESSIONS_OPENED = "weir_sessions_opened_total"
SESSIONS_CLOSED = "weir_sessions_closed_total"
SESSIONS_ACTIVE = "weir_sessions_active"
GUARD_DENIED = "weir_guard_denied_total"
SHORTAGES = "weir_shortages_total"
RELOADS = "weir_config_reloads_total"
DRIVER = "weir_driver_info"

# Gauges that must be zero when no session is open.
OUTSTANDING = (
    SESSIONS_ACTIVE,
    "weir_sessions_opening",
    "weir_buffers_outstanding",
    "weir_preamble_blocks_outstanding",
)
# Counters that must be zero always.
NEVER = ("weir_driver_completion_overflows_total", "weir_log_records_dropped_total")

# Close reasons: the label `reason` and the field of the same name.
FINISHED = "finished"
CLIENT_DENIED = "downstream_denied"
CLIENT_RESET = "downstream_reset"
UPSTREAM_RESET = "upstream_reset"
PROXY_UNTRUSTED = "pp_untrusted"
PREAMBLE_TIMEOUT = "downstream_preamble_timeout"
DESTINATION_DENIED = "local_destination_denied"
IDLE_TIMEOUT = "local_idle_timeout"
HALF_CLOSE_TIMEOUT = "local_half_close_timeout"
CONNECTION_LIMIT = "local_connection_limit"
SOURCE_EXHAUSTED = "local_source_exhausted"
DESCRIPTORS_EXHAUSTED = "local_descriptors_exhausted"
