//! Payloads that have to come back as they were sent.
use std::iter::repeat_n;

use serde_json::json;

/// Something of everything.
pub const PLAIN: &str =
    r#"{"text": "hello", "yes": true, "no": false, "nothing": null, "list": [1, -2, 2.5], "empty": {}}"#;
/// W3C trace context: carried unread.
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// A trace of its own.
pub const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// To be added to by [`BEYOND_53_AND_ONE`]: what a worker reads as a float is off.
pub const BEYOND_53: &str = r#"{"plus": 1, "numbers": [9007199254740991, 9007199254740992, 9007199254740993,
    -9007199254740993, 9223372036854775806, -9223372036854775808, 1, 0]}"#;
pub const BEYOND_53_AND_ONE: &str = r#"{"numbers": [9007199254740992, 9007199254740993, 9007199254740994,
    -9007199254740992, 9223372036854775807, -9223372036854775807, 2, 1]}"#;
pub const BEYOND_64: &str = r#"{"plus": 1, "numbers": [18446744073709551615, 18446744073709551616,
    18446744073709551617, -18446744073709551617, 100000000000000000000000000000000000001]}"#;
pub const BEYOND_64_AND_ONE: &str = r#"{"numbers": [18446744073709551616, 18446744073709551617,
    18446744073709551618, -18446744073709551616, 100000000000000000000000000000000000002]}"#;
/// Each the shortest text of its 64 bits: the smallest, the largest, neighbours, and those that readers get wrong.
pub const FLOATS: &str = r#"{"floats": [0.1, 0.30000000000000004, -2.5, 5e-324, 2.2250738585072014e-308,
    1.7976931348623157e308, 1.0000000000000002, 0.9999999999999999, 123456.789e3, 1e21, 1.5e300, 9007199254740993.5,
    31.245270191439438, 121.48791951161945, 100.78399658203125, 2.638344616030823e-256]}"#;

/// All but the last bytes of 1 MiB.
pub fn large() -> String {
    let frame = r#"{"data":""}"#;
    let words = ["jobwire ", "ü", "漢", "😀"].into_iter().cycle();
    let fitting = words.scan(frame.len(), |bytes, word| {
        *bytes += word.len();
        (*bytes <= 1 << 20).then_some(word)
    });
    let text: String = fitting.collect();
    json!({"data": text}).to_string()
}

/// Integers of hundreds of digits, as arbitrary-precision arithmetic makes them.
pub fn huge() -> String {
    let digits: String = "1234567890".chars().cycle().take(400).collect();
    format!(r#"{{"huge": [{digits}, -{digits}, 1{}]}}"#, repeat_n('0', 300).collect::<String>())
}

/// A hundred lists and objects in each other.
pub fn deep() -> String {
    format!("{}{}{}", r#"{"a":["#.repeat(50), r#""down here""#, "]}".repeat(50))
}

/// Strings that something between two languages might touch.
pub fn unicode() -> String {
    json!({
        "astral": "😀 𝒳 𠜎 👩‍👩‍👧‍👦 🏳️‍🌈",
        "composed": "é", "decomposed": "e\u{301}",
        "stacked": "Z\u{351}\u{36b}\u{343}a\u{33f}\u{32a}",
        "controls": "\0 \u{1} \u{8} \t \n \u{b} \r \u{1f} \u{7f} \u{85}",
        "right to left": "שלום عليكم \u{202e}abc\u{202c} \u{2067}x\u{2069}",
        "lines": "a\u{2028}b\u{2029}c\r\nd",
        "quotes": r#"" \ / ' ` </script> \u0041 \n"#,
        "marks": "\u{feff}bom \u{200b}zero\u{200d}width \u{fffd} \u{ffff} \u{10ffff} \u{e000}",
        "cases": "İıſß Σς ﬃ ǅ",
        "number-like": ["1e5", "NaN", "9007199254740993", "null", ""],
    })
    .to_string()
}

/// Keys that are values, properties or paths elsewhere.
pub fn keys() -> String {
    json!({
        "": "empty", " ": "blank", "é": 1, "e\u{301}": 2, "😀": 3, "\0": 4, "שלום": 5, "a.b": 6, "$ref": 7, "@type": 8,
        "10": 9, "2": 10, "-0": 11, "__proto__": {"polluted": true}, "constructor": {"prototype": 12}, "toString": 13,
        "__class__": 14, "self": 15, "payload": 16, "ctx": 17, "null": null, "\"quoted\\": 18,
    })
    .to_string()
}
