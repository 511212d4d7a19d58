//! What every endpoint shares: deadline, request id, admission, error to Status.
