//! What browsers and their tools ask for.

use anyhow::Result;
use reqwest::Method;

use super::support::{BATCHES, Gateway, answer};

#[tokio::test(flavor = "multi_thread")]
async fn preflights_mirror_the_headers_asked_for_and_last_a_day() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let asked = "authorization,baggage,content-encoding,content-type,traceparent";
    let preflight = gateway
        .request(Method::OPTIONS, BATCHES)
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", asked)
        .send()
        .await?;
    assert_eq!(preflight.status().as_u16(), 200);
    let header = |name: &str| preflight.headers()[name].to_str().unwrap();
    assert_eq!(header("access-control-allow-origin"), "*");
    assert_eq!(header("access-control-allow-headers"), asked);
    assert!(header("access-control-allow-methods").contains("POST"));
    assert_eq!(header("access-control-max-age"), "86400");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let description = answer(gateway.request(Method::GET, "/openapi.json")).await?;
    assert_eq!(description.status, 200);
    assert_eq!(description.body["openapi"], "3.1.0");
    assert!(description.body["paths"][BATCHES]["post"].is_object());
    Ok(())
}
