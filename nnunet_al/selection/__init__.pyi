from .class_balanced import class_balanced as class_balanced
from .evenly_spaced import evenly_spaced as evenly_spaced
from .flqmi import flqmi_gain_order as flqmi_gain_order
from .k_center import k_center as k_center
from .kmeans_plusplus import kmeans_plusplus as kmeans_plusplus
from .kmeans_uncertain import kmeans_uncertain as kmeans_uncertain
from .query import QuerySet as QuerySet, draw_query as draw_query
from .query_sampling import query_sampling as query_sampling
from .random_draw import random_draw as random_draw, random_foreground as random_foreground
from .ranking_noise import power_noise as power_noise, softrank_noise as softrank_noise
from .selection import Selection as Selection
from .selective import selective_union as selective_union
from .stochastic_batches import stochastic_batches as stochastic_batches
from .top_k import top_k as top_k
