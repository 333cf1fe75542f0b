//! OTLP as protobuf over HTTP.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::queue::{Delivered, Failure};
use super::settings::ExportSettings;
use super::tls;

/// A response larger than this is no OTLP.
const RESPONSE_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Client {
    client: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    gzip: bool,
}

impl Client {
    pub(super) fn new(settings: &ExportSettings) -> Result<Self> {
        let uri: Uri = settings
            .endpoint
            .parse()
            .with_context(|| format!("the OTLP endpoint `{}`", settings.endpoint))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let key = HeaderName::from_bytes(name.as_bytes())
                .with_context(|| format!("the OTLP header `{name}`"))?;
            let value = HeaderValue::from_str(value).with_context(|| format!("the value of `{name}`"))?;
            headers.insert(key, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if settings.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(settings)?)
            .https_or_http()
            .enable_http1()
            .build();
        let client = HyperClient::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, uri, headers, timeout: settings.timeout, gzip: settings.gzip })
    }

    pub(super) async fn send(&mut self, request: ExportTraceServiceRequest) -> Result<Delivered, Failure> {
        let retry = |message: String| Failure { retry: true, after: None, message };
        let fatal = |message: String| Failure { retry: false, after: None, message };
        let mut body = request.encode_to_vec();
        if self.gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body).map_err(|e| fatal(e.to_string()))?;
            body = encoder.finish().map_err(|e| fatal(e.to_string()))?;
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| retry(chain(&e)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, RESPONSE_MAX).collect().await;
            Ok((head, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
        };
        let (head, body) = tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| retry(format!("no answer within {:?}", self.timeout)))??;
        if head.status.is_success() {
            // An empty body is a full success; so is one that is no protobuf, after a 2xx.
            let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|r| r.partial_success);
            return Ok(Delivered {
                rejected: partial.as_ref().map_or(0, |p| u64::try_from(p.rejected_spans).unwrap_or(0)),
                message: partial.map(|p| p.error_message).unwrap_or_default(),
            });
        }
        let after = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        Err(Failure {
            retry: matches!(
                head.status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            after: after.map(Duration::from_secs),
            message: format!("HTTP {}", head.status),
        })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
