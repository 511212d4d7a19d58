//! The crate against decoders that nobody here wrote, and against files that nobody wants.
//!
//! What was learnt the hard way, and the test that fails without it (`conformance`, `corpus`, `fields`, `shapes` and
//! `bad_input` here; the others stand beside their code):
//!
//! | rule | tests |
//! |---|---|
//! | decoding begins at clean places only, not wherever the container marks a key frame | `classify::avc::believes_exact_recovery_points_only`, `classify::hevc::tells_entries_leading_and_disposable_pictures`, `classify::mpeg::an_i_picture_without_its_sequence_header...`, `corpus::h264_open_gop_ts` |
//! | a leading picture is decoded from the entry before | `plan::a_leading_picture_is_decoded_from_the_entry_before`, `corpus::hevc_open_gop`, `conformance::hevc` |
//! | an intra refresh is complete before anything of it is shown or skipped | `shown::hides_pictures_until_a_gradual_refresh_is_complete`, `plan::a_complete_refresh_is_a_place_to_begin...`, `conformance::h264` (`refresh*`) |
//! | only what nothing refers to is dropped | `plan::every_wanted_frame_comes_once_with_all_that_it_refers_to`, `plan::higher_layers_are_dropped_and_lower_ones_kept`, `plan::known_references_are_followed...`, `classify::mpeg::once_packed_nothing_is_skipped` |
//! | headers decide, not flags; dropped before the decoder sees them | `shapes::decodes_little_for_little`, `shapes::decodes_only_ancestors_in_av1` |
//! | a decoder is drained, then flushed, and used again | `corpus::*` (sparse choices on two threads), `corpus::wanted_frames_may_be_any_subset` |
//! | pictures are matched by packet, and what does not come out is decoded again and counted | `bad_input::what_does_not_come_out_is_decoded_again`, `plan::a_retry_begins_one_entry_earlier...`, `corpus::h264_avi`, `corpus::h264_raw` |
//! | packets that an edit list discards are decoded and not shown; zero is where a player begins | `shapes::zero_is_where_a_player_begins`, `conformance::containers` (`edit-list.mp4`) |
//! | fields in packets of their own are one picture; attached pictures are none; what is not understood is a reference | `fields::h264_fields`, `fields::mpeg2_fields`, `shapes::ignores_cover_art_beside_a_video`, `classify::avc::tells_idr_reference_and_disposable_pictures` |
//! | pictures are turned as a player turns them, before they are stretched | `shapes::turns_pictures_as_a_player_does`, `shapes::stretches_after_turning` |
//! | a damaged packet costs its dependants, a cut file its end | `bad_input::a_damaged_packet_costs_its_dependants_only`, `bad_input::a_cut_off_file_gives_what_is_there` |
//! | times: wrap-around, negative, missing, twice | `conformance::containers` |
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say on stderr what they skip"
)]

mod decode {
    pub(crate) mod support;

    mod bad_input;
    mod bytes;
    mod conformance;
    mod corpus;
    mod fields;
    mod mutations;
    mod recipes;
    mod shapes;
    mod threads;
}
