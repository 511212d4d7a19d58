//! Every parser of packets: NAL units, OBUs, VP8, VP9, MPEG.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| reelsight_decode::fuzzing::parsers(data));
