//! TLS to the collector: a CA of one's own, and client certificates.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use spanwire::export::{ExportSettings, Protocol};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::export::{OK, Sink, export, read_request, settings, span};

/// A certificate and its key, in PEM.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

fn der(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn serve_http(server: &Pair, clients: Option<&str>) -> String {
    let builder = ServerConfig::builder();
    let builder = match clients {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(der(ca));
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let config = Arc::new(builder.with_single_cert(der(&server.certificate), key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            while read_request(&mut stream).is_some() && stream.write_all(OK.as_bytes()).is_ok() {}
        }
    });
    format!("https://localhost:{port}/v1/traces")
}

fn serve_grpc(server: &Pair, clients: Option<&str>) -> String {
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(&server.certificate, &server.key));
    if let Some(ca) = clients {
        tls = tls.client_ca_root(Certificate::from_pem(ca));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sink = Sink(mpsc::channel().0);
        let service = TraceServiceServer::new(sink).accept_compressed(CompressionEncoding::Gzip);
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let mut server = Server::builder().tls_config(tls).unwrap();
            server.add_service(service).serve_with_incoming(incoming).await
        })
    });
    format!("https://localhost:{port}")
}

fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// What the collector took of one span.
fn taken(settings: ExportSettings) -> bool {
    let text = export(settings, vec![vec![span(1)]]).render();
    text.contains("spanwire_exported_spans_total{protocol=\"otlp\"} 1")
}

#[test]
fn a_collector_is_trusted_by_its_ca_and_trusts_us_by_ours() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, strange) = (Authority::new(), Authority::new());
    let server = ours.sign("localhost");
    let ca = file(&directory, "ca.pem", &ours.certificate);
    let strange_ca = file(&directory, "strange.pem", &strange.certificate);
    let identity = |name: &str, pair: &Pair| {
        let certificate = file(&directory, &format!("{name}.pem"), &pair.certificate);
        (certificate, file(&directory, &format!("{name}.key"), &pair.key))
    };
    let known = identity("known", &ours.sign("spanwire"));
    let unknown = identity("unknown", &strange.sign("spanwire"));
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let serve = if protocol == Protocol::Grpc { serve_grpc } else { serve_http };
        let (open, closed) = (serve(&server, None), serve(&server, Some(&ours.certificate)));
        let with = |endpoint: &str, ca: Option<&PathBuf>, identity: Option<&(PathBuf, PathBuf)>| {
            let timeout = Duration::from_secs(2);
            taken(ExportSettings {
                timeout,
                ca_file: ca.cloned(),
                client_certificate: identity.map(|pair| pair.0.clone()),
                client_key: identity.map(|pair| pair.1.clone()),
                ..settings(endpoint.to_owned(), protocol)
            })
        };
        assert!(with(&open, Some(&ca), None), "{protocol:?}: its CA");
        assert!(!with(&open, None, None), "{protocol:?}: the system's CAs");
        assert!(!with(&open, Some(&strange_ca), None), "{protocol:?}: another CA");
        assert!(with(&closed, Some(&ca), Some(&known)), "{protocol:?}: our certificate");
        assert!(!with(&closed, Some(&ca), Some(&unknown)), "{protocol:?}: a certificate of another CA");
        assert!(!with(&closed, Some(&ca), None), "{protocol:?}: no certificate");
    }
}

#[test]
fn a_collector_of_another_name_gets_nothing_unless_all_are_to_be_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let ca = file(&directory, "ca.pem", &ours.certificate);
    let elsewhere = ours.sign("elsewhere.example");
    let known = ours.sign("spanwire");
    let certificate = file(&directory, "known.pem", &known.certificate);
    let key = file(&directory, "known.key", &known.key);
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let serve = if protocol == Protocol::Grpc { serve_grpc } else { serve_http };
        let (open, closed) = (serve(&elsewhere, None), serve(&elsewhere, Some(&ours.certificate)));
        let to = |endpoint: &str| settings(endpoint.to_owned(), protocol);
        assert!(!taken(ExportSettings { ca_file: Some(ca.clone()), ..to(&open) }), "{protocol:?}: verified");
        assert!(
            taken(ExportSettings { insecure_skip_verify: true, ..to(&open) }),
            "{protocol:?}: of nobody's CA, with another name"
        );
        let with_ours = ExportSettings {
            insecure_skip_verify: true,
            client_certificate: Some(certificate.clone()),
            client_key: Some(key.clone()),
            ..to(&closed)
        };
        assert!(taken(with_ours), "{protocol:?}: and our certificate");
    }
}
