//! TLS by rustls over ring, and the words of the URLs that ask for it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Whose certificates are trusted.
#[derive(Clone, Copy)]
pub(crate) enum Roots<'a> {
    /// The system's.
    System,
    /// These alone, in PEM.
    Pem(&'a str),
    /// Nobody's: without TLS in sight the system's are not read.
    None,
}

/// Why there is no TLS.
#[derive(Debug)]
pub(crate) enum NoTls {
    /// No certificate is in the PEM text, or one that is none.
    Roots,
    /// What rustls says.
    Rustls(rustls::Error),
}

/// TLS that checks the server's certificate and name.
pub(crate) fn client(roots: Roots<'_>) -> Result<rustls::ClientConfig, NoTls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(NoTls::Rustls)?;
    let roots = match roots {
        Roots::Pem(pem) => read(pem)?,
        Roots::None => rustls::RootCertStore::empty(),
        Roots::System => {
            let verifier =
                rustls_platform_verifier::Verifier::new(provider).map_err(NoTls::Rustls)?;
            let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
            return Ok(config.with_no_client_auth());
        }
    };
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn read(pem: &str) -> Result<rustls::RootCertStore, NoTls> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| NoTls::Roots)?).map_err(|_| NoTls::Roots)?;
    }
    if roots.is_empty() { Err(NoTls::Roots) } else { Ok(roots) }
}

/// What a URL says of TLS to a server: that it is wanted, and whose certificates are trusted.
#[derive(Clone)]
#[cfg_attr(
    not(any(feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "no server over TLS is in this build")
)]
pub(crate) struct Wanted {
    /// The file as the URL names it, and what is in it. Without one: the system's.
    roots: Option<(Box<str>, Arc<str>)>,
}

impl Wanted {
    /// With the certificates of a PEM file alone, where the URL names one: `%XX` is read.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn new(file: Option<&str>) -> Result<Self, String> {
        let Some(file) = file else { return Ok(Self { roots: None }) };
        let path = crate::url::unescaped(file)?;
        let pem = std::fs::read_to_string(&path)
            .map_err(|error| format!("{path} cannot be read: {error}"))?;
        read(&pem).map_err(|_| format!("{path} has no certificates in PEM, or a broken one"))?;
        Ok(Self { roots: Some((file.into(), pem.into())) })
    }

    /// The parameter of the URL that names the file.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn parameter(&self) -> String {
        self.roots.as_ref().map_or_else(String::new, |(file, _)| format!("&sslrootcert={file}"))
    }

    /// The certificates, in PEM.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    fn pem(&self) -> Option<&str> {
        self.roots.as_ref().map(|(_, pem)| &**pem)
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn client(&self) -> Result<rustls::ClientConfig, NoTls> {
        client(self.pem().map_or(Roots::System, Roots::Pem))
    }
}

/// A client of one Redis server.
#[cfg(feature = "redis")]
pub(crate) fn redis_client(
    (host, port): (&str, u16),
    tls: Option<&Wanted>,
    settings: redis::RedisConnectionInfo,
) -> redis::RedisResult<redis::Client> {
    use redis::IntoConnectionInfo;
    let host = host.to_owned();
    let address = match tls {
        None => redis::ConnectionAddr::Tcp(host, port),
        Some(_) => redis::ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    let info = address.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp);
    let Some(tls) = tls else { return redis::Client::open(info) };
    // The client asks rustls for the process's own, which panics where there is none to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root_cert = tls.pem().map(|pem| pem.as_bytes().to_vec());
    redis::Client::build_with_tls(info, redis::TlsCertificates { client_tls: None, root_cert })
}
