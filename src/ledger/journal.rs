pub trait Journal: Send + Sync {}
