"""Index mappings: JSON files that can also be PUT by hand, and the code that fills them in."""

from latent_ingest.mappings.template import DEFAULT_B as DEFAULT_B
from latent_ingest.mappings.template import DEFAULT_K1 as DEFAULT_K1
from latent_ingest.mappings.template import IDS as IDS
from latent_ingest.mappings.template import LATENT_FIELD as LATENT_FIELD
from latent_ingest.mappings.template import LONG as LONG
from latent_ingest.mappings.template import PARENT_FIELD as PARENT_FIELD
from latent_ingest.mappings.template import WORDS_FIELD as WORDS_FIELD
from latent_ingest.mappings.template import MappingConfig as MappingConfig
from latent_ingest.mappings.template import hash_field as hash_field
from latent_ingest.mappings.template import id_field as id_field
from latent_ingest.mappings.template import index_body as index_body
