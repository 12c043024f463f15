//! The program `chancery`.

fn main() -> std::process::ExitCode {
    chancery::commands::main()
}
