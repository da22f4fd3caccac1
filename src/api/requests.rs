pub async fn recent() {}
pub async fn one() {}
