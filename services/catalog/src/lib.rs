//! Media: uploads, sources to readable files, probe.
