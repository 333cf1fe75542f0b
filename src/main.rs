//! The `spanwire` command.

fn main() -> std::process::ExitCode {
    spanwire::cli::main()
}
