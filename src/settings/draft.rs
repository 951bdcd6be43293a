//! What settings add up to.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::shared_gate::GateTerms;
use crate::store::LeaseTerms;
use crate::supplier::foxreload::{self, InvalidSetting, Paging, Settings};
use crate::{Config, ConfigError, StartAnswer};

/// Where orders are remembered.
#[derive(Debug, Clone)]
pub enum StorePlace {
    /// The directory of an embedded store.
    Directory(PathBuf),
    /// The URL of another, which can have a password in it.
    Database(SecretString),
}

/// The values of all settings, before what depends on others is worked out.
#[derive(Debug)]
pub struct Draft {
    pub(super) data: PathBuf,
    pub(super) store: Option<StorePlace>,
    pub(super) share: bool,
    pub(super) lease: Duration,
    pub(super) pause_max: Duration,
    pub(super) accept_unsynced: bool,
    /// Its URL, which can have a password in it.
    pub(super) gate: Option<SecretString>,
    pub(super) gate_terms: GateTerms,
    pub(super) node: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) config: Config,
    pub(super) client: Settings,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) wire_bound: Option<Duration>,
    pub(super) posts_max: Option<usize>,
    pub(super) lane_posts_max: Option<usize>,
    pub(super) look_again_max: Option<Duration>,
    pub(super) page_parameter: Option<String>,
    pub(super) offset_parameter: Cow<'static, str>,
    pub(super) limit_parameter: Cow<'static, str>,
    pub(super) first_page: u64,
    pub(super) accept_new_account: bool,
    pub(super) adopt_unknown_orders: bool,
    pub(super) product_is_set: bool,
    pub(super) balance_amount_is_set: bool,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./order-router-data"),
            store: None,
            share: false,
            lease: LeaseTerms::default().length,
            pause_max: LeaseTerms::default().pause_max,
            accept_unsynced: false,
            gate: None,
            gate_terms: GateTerms::default(),
            node: None,
            base_url: None,
            api_key_file: None,
            root_certificates: None,
            config: Config::default(),
            client: Settings::default(),
            connect_timeout: None,
            wire_bound: None,
            posts_max: None,
            lane_posts_max: None,
            look_again_max: None,
            page_parameter: None,
            offset_parameter: "offset".into(),
            limit_parameter: "limit".into(),
            first_page: 1,
            accept_new_account: false,
            adopt_unknown_orders: false,
            product_is_set: false,
            balance_amount_is_set: false,
        }
    }
}

impl Draft {
    /// The directory of the journal, if there is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.store {
            None => Some(&self.data),
            Some(StorePlace::Directory(dir)) => Some(dir),
            Some(StorePlace::Database(_)) => None,
        }
    }

    /// The file of the kill switch.
    pub(super) fn stop_file(&self) -> Option<PathBuf> {
        let of_directory = || self.directory().map(|dir| dir.join("STOP"));
        self.config.stop_file.clone().or_else(of_directory)
    }

    /// Where orders are remembered.
    pub(super) fn place(&self) -> StorePlace {
        self.store.clone().unwrap_or_else(|| StorePlace::Directory(self.data.clone()))
    }

    /// The terms of the lease.
    pub(super) fn lease(&self) -> LeaseTerms {
        LeaseTerms { length: self.lease, margin: self.lease / 10, pause_max: self.pause_max }
    }

    /// The router's configuration; `posts` can be under way at once at least.
    pub(super) fn config(&self, posts: usize) -> Config {
        let mut config = self.config.clone();
        config.posts_max = self.posts_max.unwrap_or(posts.max(config.posts_max));
        config.lane_posts_max = self.lane_posts_max.unwrap_or(config.posts_max);
        let first = config.look_again.0;
        config.look_again.1 = self.look_again_max.unwrap_or(config.look_again.1.max(first));
        config.start = match (self.accept_new_account, self.adopt_unknown_orders) {
            (true, _) => StartAnswer::NewAccount,
            (_, true) => StartAnswer::Adopt,
            // Taken only when the store is empty.
            _ if self.is_loopback() => StartAnswer::NewAccount,
            _ => StartAnswer::Ask,
        };
        config
    }

    /// The client's settings, without the certificates, which are in a file.
    pub(super) fn client(&self) -> Settings {
        let mut client = self.client.clone();
        let timeout = self.config.request_timeout;
        client.connect_timeout =
            self.connect_timeout.unwrap_or(client.connect_timeout.min(timeout / 2));
        client.wire_bound = self.wire_bound.unwrap_or(client.wire_bound).min(timeout);
        let limit = self.limit_parameter.clone();
        client.paging = match &self.page_parameter {
            Some(page) => Paging::Page { page: page.clone().into(), limit, first: self.first_page },
            None => Paging::Offset { offset: self.offset_parameter.clone(), limit },
        };
        client
    }

    /// What is wrong with a draft in which one setting is not the default.
    pub(super) fn check_alone(&self) -> Result<(), String> {
        let client = self.client();
        let given = Settings {
            connect_timeout: self.connect_timeout.unwrap_or(client.connect_timeout),
            wire_bound: self.wire_bound.unwrap_or(Settings::default().wire_bound),
            ..client
        };
        match (foxreload::check(&given), self.config(64).check()) {
            (Err(InvalidSetting::Path(_)), _) => {
                let text = "a path begins with a slash, has no query and no `/../`, and that of \
                    one order has {id} in it";
                Err(text.to_owned())
            }
            (Err(InvalidSetting::Range(_)), _) => Err("is out of range".to_owned()),
            (Err(error), _) => Err(error.to_string()),
            (Ok(()), Err(ConfigError::Zero(_))) => Err("must not be 0".to_owned()),
            (Ok(()), _) => Ok(()),
        }
    }

    /// Whether the supplier is on this machine: a simulated one.
    pub(super) fn is_loopback(&self) -> bool {
        self.base_url.as_deref().is_some_and(foxreload::is_loopback)
    }
}
