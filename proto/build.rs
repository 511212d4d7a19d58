//! Compiles the contract with protox, so that no protoc has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let files = [
        "reelsight/v1/common.proto",
        "reelsight/v1/media_service.proto",
        "reelsight/v1/qa_service.proto",
        "reelsight/v1/admin_service.proto",
        "google/longrunning/operations.proto",
    ];
    println!("cargo::rerun-if-changed=reelsight");
    println!("cargo::rerun-if-changed=google");
    let descriptors = protox::compile(files, ["."])?;
    fs::write(out.join("reelsight.descriptors.bin"), descriptors.encode_to_vec())?;
    // Names are what google.protobuf.Any refers to.
    let mut config = tonic_prost_build::Config::new();
    config
        .enable_type_names()
        .type_name_domain([".reelsight.v1"], "type.googleapis.com");
    tonic_prost_build::configure()
        .bytes(".reelsight.v1")
        .btree_map(".")
        .include_file("contract.rs")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
