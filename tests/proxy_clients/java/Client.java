import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.HttpHost;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.http.io.entity.StringEntity;
import org.opensearch.client.Request;
import org.opensearch.client.ResponseException;
import org.opensearch.client.RestClient;

/** Requests of the low-level Java REST client, as an application makes them. */
public final class Client {
  private static RestClient client;

  private static String ask(String method, String path, String body) throws Exception {
    Request request = new Request(method, path);
    if (body != null) {
      ContentType kind = path.contains("_bulk") || path.contains("_msearch")
          ? ContentType.create("application/x-ndjson", StandardCharsets.UTF_8)
          : ContentType.APPLICATION_JSON;
      request.setEntity(new StringEntity(body, kind));
    }
    return EntityUtils.toString(client.performRequest(request).getEntity());
  }

  private static List<String> all(String pattern, String text) {
    List<String> found = new ArrayList<>();
    Matcher matcher = Pattern.compile(pattern).matcher(text);
    while (matcher.find()) {
      found.add("\"" + matcher.group(1) + "\"");
    }
    return found;
  }

  public static void main(String[] arguments) throws Exception {
    String index = arguments[1];
    client = RestClient.builder(HttpHost.create(arguments[0])).setCompressionEnabled(true).build();
    List<String> steps = new ArrayList<>();
    String mapping = "{\"mappings\": {\"properties\": {\"group\": {\"type\": \"keyword\"}}}}";
    steps.add("\"create\": " + ask("PUT", "/" + index, mapping));
    steps.add("\"index\": " + ask("PUT", "/" + index + "/_doc/first?refresh=true",
        "{\"text\": \"one document\", \"group\": \"a\"}"));
    StringBuilder lines = new StringBuilder();
    for (int n = 0; n < 20; n++) {
      lines.append("{\"index\": {\"_index\": \"" + index + "\", \"_id\": \"b" + n + "\"}}\n");
      lines.append("{\"text\": \"document number " + n + "\", \"group\": \""
          + (n % 2 == 0 ? "even" : "odd") + "\"}\n");
    }
    steps.add("\"bulk\": " + ask("POST", "/_bulk?refresh=true", lines.toString()));
    steps.add("\"search\": " + ask("GET", "/" + index + "/_search",
        "{\"query\": {\"match\": {\"text\": \"number 7\"}}, \"size\": 3,"
            + " \"aggs\": {\"groups\": {\"terms\": {\"field\": \"group\"}}}}"));
    List<String> seen = new ArrayList<>();
    String page = ask("POST", "/" + index + "/_search?scroll=1m", "{\"sort\": [\"_doc\"], \"size\": 7}");
    while (page.contains("\"_id\"")) {
      seen.addAll(all("\"_id\":\"([^\"]*)\"", page));
      String scroll = all("\"_scroll_id\":\"([^\"]*)\"", page).get(0);
      page = ask("POST", "/_search/scroll", "{\"scroll\": \"1m\", \"scroll_id\": " + scroll + "}");
    }
    steps.add("\"scroll\": " + seen);
    steps.add("\"delete_by_query\": " + ask("POST", "/" + index + "/_delete_by_query?refresh=true",
        "{\"query\": {\"term\": {\"group\": \"odd\"}}}"));
    steps.add("\"alias\": " + ask("PUT", "/" + index + "/_alias/" + index + "-alias", null));
    steps.add("\"count\": " + ask("GET", "/" + index + "-alias/_count", null));
    try {
      ask("GET", "/" + index + "/_doc/nowhere", null);
    } catch (ResponseException error) {
      steps.add("\"missing\": " + EntityUtils.toString(error.getResponse().getEntity()));
    }
    String found = ask("POST", "/" + arguments[2] + "/_search",
        "{\"query\": {\"match\": {\"text\": \"" + arguments[3] + "\"}}, \"_source\": false}");
    steps.add("\"delete\": " + ask("DELETE", "/" + index, null));
    System.out.println("{\"steps\": {" + String.join(", ", steps) + "}, \"hits\": "
        + all("\"_id\":\"([^\"]*)\"", found) + "}");
    client.close();
  }
}
