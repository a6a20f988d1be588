//! Arguments as `interfaces.md` §1 has them, tables, and ladders.

use clap::Parser;
use contract::{ActorId, CallKey, Time, TraceLine, UtcMillis};

use super::ladder::render;
use super::table::{Paint, clean, table};
use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_commands_of_the_contract_are_understood() {
    for line in [
        "weft",
        "weft run",
        "weft --demo --set media.workers=2",
        "weft run --config a.toml --config b.toml --demo --set media.workers=2 --set log.level=debug",
        "weft run --log json --config weft.toml",
        "weft local",
        "weft local --nodes 5 --data x",
        "weft check --config a.toml",
        "weft defaults",
        "weft defaults media",
        "weft init --address 192.0.2.1 --domain example.org",
        "weft nodes --json",
        "weft actors --kind call --node a --url http://127.0.0.1:8080",
        "weft inspect registration:1000@weft.local",
        "weft trace call:00000000-0000-8000-8000-000000000000 --all",
        "weft stop call:00000000-0000-8000-8000-000000000000 --epoch 3",
        "weft move registration:1000@weft.local --to weft-2 --epoch 3",
        "weft move call:00000000-0000-8000-8000-000000000000 --to 3 --json",
        "weft drain",
        "weft drain weft-3 --max 60",
        "weft version --json",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
    let cli = parse("weft run --config a.toml --config b.toml --set x=1").expect("parses");
    let Some(Command::Run(run)) = cli.command else {
        panic!("not run")
    };
    assert_eq!(
        run.layers.config,
        [PathBuf::from("a.toml"), PathBuf::from("b.toml")]
    );
    assert_eq!(run.layers.set, ["x=1"]);
    let cli = parse("weft nodes").expect("parses");
    let Some(Command::Nodes(ask)) = cli.command else {
        panic!("not nodes")
    };
    assert_eq!(ask.url, "http://127.0.0.1:8080");
}

#[test]
fn misuse_is_exit_code_two() {
    for line in [
        "weft sheep",
        "weft init",
        "weft inspect",
        "weft local --nodes 10",
        "weft local --nodes 0",
        "weft run --log loud",
        "weft actors --limit 0",
        "weft actors --limit 1001",
        "weft stop x --epoch y",
        "weft move x",
        "weft move --to b",
        "weft move x --to b --epoch y",
        "weft drain --max 0",
        "weft drain --max 1801",
        "weft --demo nodes",
    ] {
        assert_eq!(
            parse(line).expect_err(line).exit_code(),
            i32::from(EXIT_INPUT),
            "{line}"
        );
    }
    let ask = AskArgs {
        url: "ftp://x".to_owned(),
        json: false,
        data: PathBuf::from("none"),
    };
    let failure = super::ask(&Command::Nodes(ask), Paint::plain())
        .expect("asks")
        .expect_err("bad");
    assert_eq!(failure.code, EXIT_INPUT);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", nobody.local_addr().expect("bound"));
    drop(nobody);
    let ask = AskArgs {
        url: url.clone(),
        json: false,
        data: PathBuf::from("none"),
    };
    let failure = super::ask(&Command::Nodes(ask), Paint::plain())
        .expect("asks")
        .expect_err("bad");
    assert_eq!(failure.code, EXIT_FAILED);
    assert!(failure.text.contains(&url), "{}", failure.text);
}

#[test]
fn local_commands_answer_without_a_node() {
    let shown = check(&LayerArgs::default()).expect("the default is right");
    assert!(shown.contains("rtp_timeout_s = 60") && !shown.contains("weft-1000"));
    let open = shown.lines().last().expect("a line");
    assert!(
        open.starts_with("# hours office of weft.local: ") && open.contains(" until 20"),
        "{open}"
    );
    let bad = LayerArgs {
        set: vec!["media.workers=99".to_owned()],
        ..LayerArgs::default()
    };
    let failure = check(&bad).expect_err("out of range");
    assert_eq!(failure.code, EXIT_INPUT);
    assert!(
        failure.text.contains("`media.workers` = 99"),
        "{}",
        failure.text
    );
    assert!(defaults(Some("media")).is_ok());
    assert_eq!(
        defaults(Some("sheep")).expect_err("no key").code,
        EXIT_INPUT
    );
    assert!(version(false).starts_with("weft "));
    let value: serde_json::Value = serde_json::from_str(&version(true)).expect("JSON");
    assert_eq!(value["schema"]["min"], 1);
    assert_eq!(value["schema"]["max"], contract::SchemaVersion::NEWEST.0);
}

#[test]
fn init_writes_a_private_file_once() {
    use std::os::unix::fs::PermissionsExt;
    let output = std::env::temp_dir().join(format!("weft-init-{}.toml", std::process::id()));
    let _ = std::fs::remove_file(&output);
    let arguments = InitArgs {
        address: "192.0.2.1".to_owned(),
        domain: None,
        output: output.clone(),
    };
    let shown = initial(&arguments).expect("written");
    assert!(shown.contains("1019") && shown.contains("9196"));
    let mode = std::fs::metadata(&output)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        initial(&arguments).expect_err("it is there").code,
        EXIT_INPUT
    );
    std::fs::remove_file(output).expect("removed");
}

#[test]
fn tables_align_and_peers_cannot_paint() {
    let rows = vec![
        vec!["lane:1/0".to_owned(), "up".to_owned(), "1".to_owned()],
        vec![
            "registration:1000@a".to_owned(),
            "x".to_owned(),
            "22".to_owned(),
        ],
    ];
    let text = table(&["ID", "STATE", "N"], &rows, Paint::plain());
    assert_eq!(
        text,
        "ID                   STATE  N\nlane:1/0             up     1\nregistration:1000@a  x      22\n"
    );
    assert_eq!(clean("a\x1b[31m\r\nb"), "a?[31m??b");
}

fn line(ms: u64, actor: ActorId, inward: bool, text: &str) -> TraceLine {
    TraceLine {
        at: UtcMillis(1_000 + ms),
        mono: Time::from_micros(5_000_000 + ms * 1_000),
        actor,
        peer: "lane:1/0".to_owned(),
        inward,
        text: text.to_owned(),
    }
}

fn a_call() -> Vec<TraceLine> {
    let call = CallKey::from_bits(0x1234_5678);
    let side = |number| ActorId::Dialog(call.side(number));
    let to = |line: &str| format!("request of {} to udp/0/192.0.2.3:5060: {line}", side(2));
    vec![
        line(
            0,
            ActorId::Call(call),
            true,
            "INVITE on udp/0/192.0.2.2:5060",
        ),
        line(0, side(1), true, "serve INVITE on udp/0/192.0.2.2:5060"),
        line(
            1,
            side(2),
            false,
            &to("INVITE sip:1001@192.0.2.3:5060 SIP/2.0"),
        ),
        line(8, side(2), true, "180 to INVITE on udp/0/192.0.2.3:5060"),
        line(9, side(1), false, "respond SIP/2.0 180 Ringing"),
        line(500, side(1), true, "again INVITE on udp/0/192.0.2.2:5060"),
        line(
            2_000,
            side(2),
            true,
            "486 to INVITE on udp/0/192.0.2.3:5060",
        ),
        line(2_001, side(1), false, "respond SIP/2.0 486 Busy Here"),
        line(2_003, side(1), true, "request ACK on udp/0/192.0.2.2:5060"),
    ]
}

const LADDER: &str = r"
            caller                         weft                        callee 2
        192.0.2.2:5060                                              192.0.2.3:5060
       0.0 ms  |-----------INVITE----------->|                             |
       1.0 ms  |                             |-----------INVITE----------->|
       8.0 ms  |                             |<-------180 (INVITE)---------|
       9.0 ms  |<--------180 Ringing---------|                             |
     500.0 ms  |-------INVITE (again)------->|                             |
    2000.0 ms  |                             |<-------486 (INVITE)---------|
    2001.0 ms  |<-------486 Busy Here--------|                             |
    2003.0 ms  |-------------ACK------------>|                             |
";

#[test]
fn a_call_becomes_a_ladder() {
    let drawn = render(&a_call(), false, Paint::plain());
    assert_eq!(drawn, LADDER.trim_start_matches('\n'), "\n{drawn}");
}

#[test]
fn a_callee_stays_on_the_right_when_the_caller_is_gone() {
    let call = CallKey::from_bits(0x1234_5678);
    let bye = line(
        0,
        ActorId::Dialog(call.side(2)),
        true,
        "request BYE on udp/0/192.0.2.3:5060",
    );
    let drawn = render(&[bye], false, Paint::plain());
    let last = drawn.lines().last().unwrap_or_default();
    assert!(
        last.contains("|                             |<-------"),
        "\n{drawn}"
    );
}

#[test]
fn every_line_becomes_a_note_if_asked_and_hostile_text_stays_text() {
    let drawn = render(&a_call(), true, Paint::plain());
    assert!(
        drawn.contains("call <- lane:1/0: INVITE on udp/0/192.0.2.2:5060"),
        "\n{drawn}"
    );
    assert_eq!(drawn.lines().count(), LADDER.lines().count());
    let call = CallKey::from_bits(1);
    let hostile = vec![
        line(
            0,
            ActorId::Dialog(call.side(1)),
            false,
            "respond SIP/2.0 200 \x1b[2J and on and on and on and on",
        ),
        line(1, ActorId::Dialog(call.side(1)), true, "999 to  on x"),
        line(2, ActorId::Dialog(call.side(255)), true, "request é on"),
    ];
    assert!(!render(&hostile, true, Paint::plain()).contains('\x1b'));
    assert_eq!(render(&[], false, Paint::plain()), "nothing is traced\n");
    let plain = render(&a_call()[..1], false, Paint::plain());
    assert_eq!(
        plain,
        "       0.0 ms  call <- lane:1/0: INVITE on udp/0/192.0.2.2:5060\n"
    );
}

/// `cluster-config/three` is what `weft local --nodes 3` runs.
#[test]
fn the_files_of_three_nodes_are_those_of_the_command() {
    for number in 1..=3 {
        let file = format!("../cluster-config/three/weft-{number}.toml");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let kept = std::fs::read_to_string(&path).expect("the file");
        let folder = std::path::Path::new("weft-data/local");
        let made = super::fleet::configuration(folder, number, 3);
        assert_eq!(kept, made, "{}", path.display());
    }
}
