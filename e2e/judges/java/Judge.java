// What Java says to each folder with tls.crt, tls.key, ca.crt and a server's name in `name`: `ok FOLDER` or
// `refused FOLDER: why`. First PKIX validation, then a TLS handshake with the certificate on both sides.

import java.io.ByteArrayInputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.CertPathValidator;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

public class Judge {
    private static final char[] NO_PASSWORD = new char[0];

    public static void main(String[] folders) throws Exception {
        ExecutorService server = Executors.newSingleThreadExecutor();
        for (String folder : folders) {
            try {
                judge(Path.of(folder), server);
                System.out.println("ok " + folder);
            } catch (Exception refusal) {
                System.out.println("refused " + folder + ": " + refusal);
            }
        }
        server.shutdownNow();
    }

    private static void judge(Path folder, ExecutorService server) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        List<? extends Certificate> chain = List.copyOf(certificates(factory, folder.resolve("tls.crt")));
        Set<TrustAnchor> anchors = new HashSet<>();
        KeyStore trust = KeyStore.getInstance("PKCS12");
        trust.load(null, NO_PASSWORD);
        for (Certificate root : certificates(factory, folder.resolve("ca.crt"))) {
            anchors.add(new TrustAnchor((X509Certificate) root, null));
            trust.setCertificateEntry("root" + anchors.size(), root);
        }
        PKIXParameters parameters = new PKIXParameters(anchors);
        parameters.setRevocationEnabled(false);
        CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(chain), parameters);

        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null, NO_PASSWORD);
        PrivateKey key = key(folder.resolve("tls.key"), chain.get(0).getPublicKey().getAlgorithm());
        own.setKeyEntry("own", key, NO_PASSWORD, chain.toArray(new Certificate[0]));
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(own, NO_PASSWORD);
        TrustManagerFactory trusts = TrustManagerFactory.getInstance("PKIX");
        trusts.init(trust);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trusts.getTrustManagers(), null);
        handshake(context, Files.readString(folder.resolve("name")).strip(), server);
    }

    private static void handshake(SSLContext context, String name, ExecutorService executor) throws Exception {
        InetAddress loopback = InetAddress.getLoopbackAddress();
        try (SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 1, loopback)) {
            listener.setNeedClientAuth(true);
            Callable<Void> serve = () -> {
                try (SSLSocket socket = (SSLSocket) listener.accept()) {
                    socket.setSoTimeout(10_000);
                    socket.getOutputStream().write(socket.getInputStream().read());
                    return null;
                }
            };
            Future<Void> served = executor.submit(serve);
            Socket plain = new Socket(loopback, listener.getLocalPort());
            try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, name, 443, true)) {
                socket.setSoTimeout(10_000);
                SSLParameters parameters = socket.getSSLParameters();
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                socket.setSSLParameters(parameters);
                socket.getOutputStream().write(42);
                if (socket.getInputStream().read() != 42) {
                    throw new IllegalStateException("the server did not answer");
                }
            }
            served.get(10, TimeUnit.SECONDS);
        }
    }

    private static java.util.Collection<? extends Certificate> certificates(CertificateFactory factory, Path file) throws Exception {
        return factory.generateCertificates(new ByteArrayInputStream(Files.readAllBytes(file)));
    }

    private static PrivateKey key(Path file, String algorithm) throws Exception {
        String body = Files.readString(file).replaceAll("-----[A-Z ]+-----", "").replaceAll("\\s", "");
        return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(body)));
    }
}
