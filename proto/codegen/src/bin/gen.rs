//! `gen [DIR]`: writes the Rust half of the contract into DIR (default: `proto/src/gen`).
//!
//! Compiles `proto/jobwire/v1` with protox, so that no protoc is needed on any machine. One field is patched before
//! prost sees it: `JobLease.task` becomes `bytes`. A message and a byte string look the same on the wire, and the server
//! splices the stored bytes of a task into each lease without decoding them. The descriptor set that reflection and the
//! tests use is the unpatched one.
use anyhow::{Context, Result};
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use std::{fs, path::PathBuf};

const FILES: [&str; 9] = [
    "common.proto",
    "options.proto",
    "job.proto",
    "job_service.proto",
    "worker_service.proto",
    "queue_service.proto",
    "schedule_service.proto",
    "workflow_service.proto",
    "admin_service.proto",
];

fn main() -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = std::env::args_os().nth(1).map_or_else(|| root.join("src/gen"), PathBuf::from);
    fs::create_dir_all(&out)?;
    let files = FILES.map(|name| format!("jobwire/v1/{name}"));
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(&files).context("proto/jobwire/v1 does not compile")?;
    let mut set = compiler.file_descriptor_set();

    let mut bare = set.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptor.bin"), prost_encode(&bare))?;

    patch_task(&mut set);
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .out_dir(&out)
        .emit_rerun_if_changed(false)
        .compile_fds(set)?;
    Ok(())
}

fn prost_encode(set: &FileDescriptorSet) -> Vec<u8> {
    prost::Message::encode_to_vec(set)
}

fn patch_task(set: &mut FileDescriptorSet) {
    let field = set
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .filter(|message| message.name() == "JobLease")
        .flat_map(|message| &mut message.field)
        .find(|field| field.name() == "task")
        .expect("JobLease.task is part of the contract");
    field.set_type(Type::Bytes);
    field.type_name = None;
}
