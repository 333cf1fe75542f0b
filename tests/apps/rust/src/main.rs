//! tonic on a runtime of several threads: any method of `hop.Chain`, messages are bytes; the background caller is a task.

use std::env;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

const PREFIX: &str = "/hop.Chain/";

#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[derive(Clone)]
struct Hop {
    service: &'static str,
    next: Option<Channel>,
}

impl Hop {
    async fn call(&self, path: &str) -> Result<Bytes, Status> {
        let mut client = tonic::client::Grpc::new(self.next.clone().expect("a next hop"));
        client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let path = PathAndQuery::try_from(path).map_err(|e| Status::internal(e.to_string()))?;
        client.unary(Request::new(Bytes::new()), path, Raw).await.map(Response::into_inner)
    }

    async fn answer(&self, path: &str) -> Result<Response<Bytes>, Status> {
        let forward = self.next.is_some() && !path[PREFIX.len()..].starts_with("bg-");
        let rest = if forward { self.call(path).await? } else { Bytes::copy_from_slice(path.as_bytes()) };
        Ok(Response::new([self.service.as_bytes(), b" ", &rest].concat().into()))
    }
}

/// One call: the method is known from the path alone.
struct Call(Hop, String);

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let (hop, path) = (self.0.clone(), self.1.clone());
        Box::pin(async move { hop.answer(&path).await })
    }
}

impl NamedService for Hop {
    const NAME: &'static str = "hop.Chain";
}

impl tower_service::Service<http::Request<Body>> for Hop {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = Call(self.clone(), request.uri().path().to_owned());
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(call, request).await) })
    }
}

async fn background(hop: Hop, hz: f64, seconds: f64) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / hz));
    for n in 0..(hz * seconds) as u64 {
        ticks.tick().await;
        let path = format!("{PREFIX}bg-{}-{}-{n}", hop.service, std::process::id());
        if let Err(e) = hop.call(&path).await {
            eprintln!("background: {e}");
        }
    }
}

fn number(key: &str, fallback: f64) -> f64 {
    env::var(key).ok().and_then(|text| text.parse().ok()).unwrap_or(fallback)
}

#[tokio::main(worker_threads = 4)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let next = env::var("NEXT").ok().filter(|next| !next.is_empty());
    let next = match next {
        Some(next) => Some(Endpoint::from_shared(next)?.timeout(Duration::from_secs(20)).connect_lazy()),
        None => None,
    };
    let hop = Hop { service: env::var("SERVICE")?.leak(), next };
    let hz = number("BG_HZ", 0.0);
    if hop.next.is_some() && hz > 0.0 {
        tokio::spawn(background(hop.clone(), hz, number("BG_SECONDS", 600.0)));
    }
    let address = format!("127.0.0.1:{}", env::var("PORT")?).parse()?;
    Server::builder().add_service(hop).serve(address).await?;
    Ok(())
}
