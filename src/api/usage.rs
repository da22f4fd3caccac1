pub async fn report() {}
pub async fn compare() {}
