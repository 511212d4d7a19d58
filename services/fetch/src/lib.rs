//! HTTP sources under the URL policy.
