//! What a client is built from, and what is refused.

use std::sync::Arc;

use order_router::runtime::SystemClock;
use order_router::supplier::foxreload::{BASE_URL, InvalidSetting, Settings};
use order_router::supplier::{ApiKey, FoxReload, KeyError, Supplier};
use secrecy::SecretString;

fn build(base_url: &str, settings: Settings) -> Result<FoxReload, InvalidSetting> {
    build_with("key-1", base_url, settings)
}

fn build_with(
    key: &str,
    base_url: &str,
    mut settings: Settings,
) -> Result<FoxReload, InvalidSetting> {
    // The machine that tests run on need not have roots of its own.
    settings.root_certificates.get_or_insert_with(certificate);
    let key = ApiKey::new(key).expect("a key");
    FoxReload::new(base_url, &key, settings, Arc::new(SystemClock::start()))
}

fn certificate() -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    made.expect("a certificate").cert.pem()
}

#[test]
fn https_is_required_but_for_this_machine_or_when_told() {
    for good in [BASE_URL, "http://localhost:1", "http://127.3.2.1", "http://[::1]:8"] {
        build(good, Settings::default()).expect(good);
    }
    for bad in ["http://example.com", "http://10.0.0.1", "http://localhost.example.com"] {
        let error = build(bad, Settings::default()).expect_err(bad);
        assert!(matches!(error, InvalidSetting::HttpsRequired), "{error}");
        let mut settings = Settings::default();
        settings.allow_http = true;
        build(bad, settings).expect(bad);
    }
}

#[test]
fn base_url_has_no_secrets_and_no_tail() {
    for bad in [
        "",
        "example.com",
        "ftp://example.com",
        "https://user@example.com",
        "https://:secret@example.com",
        "https://example.com?x",
        "https://example.com#x",
    ] {
        let error = build(bad, Settings::default()).expect_err(bad);
        assert!(matches!(error, InvalidSetting::BaseUrl), "{bad}: {error}");
    }
}

#[track_caller]
fn refused(name: &str, change: impl FnOnce(&mut Settings)) {
    let mut settings = Settings::default();
    change(&mut settings);
    let error = build(BASE_URL, settings).expect_err(name);
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn setting_out_of_range_is_named() {
    use std::time::Duration;
    refused("orders_path", |s| s.orders_path = "api/orders".into());
    refused("orders_path", |s| s.orders_path = "/api/orders?x=1".into());
    refused("orders_path", |s| s.orders_path = "/api/orders/{id}".into());
    refused("order_path", |s| s.order_path = "/api/orders/".into());
    refused("page_limit", |s| s.page_limit = 0);
    refused("answer_bytes_max", |s| s.answer_bytes_max = 0);
    refused("page_bytes_max", |s| s.page_bytes_max = 0);
    refused("wire_bound", |s| s.wire_bound = Duration::ZERO);
    refused("connect_timeout", |s| s.connect_timeout = Duration::MAX);
    refused("root certificates", |s| s.root_certificates = Some("none".to_owned()));
    for proxy in ["http://", "socks5://127.0.0.1:1", "localhost:3128", "proxy.example.com"] {
        refused("proxy", |s| s.proxy = Some(SecretString::from(proxy)));
    }
}

#[test]
fn fingerprint_tells_key_address_and_account_apart() {
    let of = |key, base, account: &str| {
        let mut settings = Settings::default();
        settings.account = account.to_owned();
        build_with(key, base, settings).expect("a client").fingerprint()
    };
    let one = of("key-1", "https://example.com", "");
    assert_eq!(one, of("key-1", "https://example.com/", ""));
    assert_ne!(one, of("key-2", "https://example.com", ""));
    assert_ne!(one, of("key-1", "https://example.org", ""));
    assert_ne!(one, of("key-1", "https://example.com", "a"));
    // It is stored with every attempt: it must not change between versions.
    assert_eq!(one.0, 370_122_019_707_153_446);
}

#[test]
fn key_is_printable_and_of_a_closed_file() {
    for bad in ["", "  ", "a b", "a\nb", "é", &"x".repeat(1025)] {
        assert!(matches!(ApiKey::new(bad), Err(KeyError::Malformed)), "{bad:?}");
    }
    assert!(matches!(ApiKey::from_env("ORDER_ROUTER_NO_SUCH"), Err(KeyError::NoVariable(_))));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    assert!(matches!(ApiKey::from_file(&path), Err(KeyError::Unreadable { .. })));
    std::fs::write(&path, "key-1\n").expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for (mode, taken) in [(0o644, false), (0o602, false), (0o620, false), (0o440, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("set");
            assert_eq!(ApiKey::from_file(&path).is_ok(), taken, "{mode:o}");
        }
    }
    ApiKey::from_file(&path).expect("a key");
}
