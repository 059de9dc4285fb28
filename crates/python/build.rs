//! Tells the crate which Python it is built for, because the layout of small integers changed in 3.12.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
