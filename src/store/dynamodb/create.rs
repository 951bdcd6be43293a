//! Making the table.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};

use super::error::Trouble;
use super::items::{EXPIRES, PK, SK};
use super::{DynamoDbConfig, DynamoDbError, client};

/// How long the table may take to be made.
const PATIENCE: Duration = Duration::from_secs(120);

const LOOK: Duration = Duration::from_millis(500);

/// Makes the table, if it is not there yet, and waits until it can be used: billed by request, with
/// expiry by `expires_at`.
///
/// The keys need `dynamodb:CreateTable`, `DescribeTable`, `DescribeTimeToLive` and
/// `UpdateTimeToLive`; the router itself only `GetItem`, `BatchGetItem`, `Query`, `PutItem`,
/// `UpdateItem`, `DeleteItem`, `BatchWriteItem` and `ConditionCheckItem`. Backups and protection
/// from deletion are the operator's.
///
/// # Errors
/// [`DynamoDbError`]; [`DynamoDbError::Unusable`] if a table of this name has other keys.
pub async fn create_table(config: &DynamoDbConfig) -> Result<(), DynamoDbError> {
    let client = client(config, config.provider()?);
    let made = tokio::time::timeout(PATIENCE, make(&client, &config.table)).await;
    let late = || Trouble::wrong(format!("the table was not made within {PATIENCE:?}"));
    made.unwrap_or_else(|_| Err(late())).map_err(|error| error.opening(config))
}

async fn make(client: &Client, table: &str) -> Result<(), Trouble> {
    let (mut asked, mut failed) = (client.create_table().table_name(table), 0);
    asked = asked.billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        let attribute = attribute.attribute_type(ScalarAttributeType::S).build();
        let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
        asked = asked
            .attribute_definitions(attribute.map_err(Trouble::wrong)?)
            .key_schema(key.map_err(Trouble::wrong)?);
    }
    match asked.send().await {
        Ok(_) => {}
        Err(error) if error.code() == Some("ResourceInUseException") => {}
        Err(error) => return Err(error.into()),
    }
    // It is not there at once, and not of use at once.
    loop {
        let told = client.describe_table().table_name(table).send().await.map_err(Trouble::from);
        match told {
            Ok(told) => {
                let table = told.table.ok_or_else(|| Trouble::wrong("it describes no table"))?;
                if table.table_status() == Some(&TableStatus::Active) {
                    check_keys(table.key_schema())?;
                    break;
                }
            }
            Err(trouble) => {
                failed += 1;
                if failed > 10 {
                    return Err(trouble);
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    expire(client, table).await
}

fn check_keys(schema: &[KeySchemaElement]) -> Result<(), Trouble> {
    let mut names: Vec<_> = schema.iter().map(KeySchemaElement::attribute_name).collect();
    names.sort_unstable();
    match names == [PK, SK] {
        true => Ok(()),
        false => {
            let names = names.join(", ");
            Err(Trouble::wrong(format!("a table of this name has other keys: {names}")))
        }
    }
}

async fn expire(client: &Client, table: &str) -> Result<(), Trouble> {
    let told = client.describe_time_to_live().table_name(table).send().await?;
    let status = told.time_to_live_description.and_then(|told| told.time_to_live_status);
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let expiry = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES).build();
    let expiry = expiry.map_err(Trouble::wrong)?;
    let asked = client.update_time_to_live().table_name(table);
    asked.time_to_live_specification(expiry).send().await?;
    Ok(())
}
